# SPDX-License-Identifier: Apache-2.0
"""What runs until it is cancelled ends then, also when a failure hides the cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, Protocol, cast

import pytest

from agentpool_gateway.kube.client import KubeApi, KubeError
from agentpool_gateway.kube.reflector import Reflector
from agentpool_gateway.membership.mirror import Mirror
from agentpool_gateway.membership.static import StaticMembership


class Hiding:
    """Waits for ever, and reports a failure of its own when it is cancelled; once."""

    def __init__(self, failure: Exception) -> None:
        self.began = asyncio.Event()
        self._failure = failure

    async def wait(self, *_: object) -> Any:
        """See the class."""
        assert not self.began.is_set(), "it goes on"
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise self._failure from None


class Loop(Protocol):
    """What runs until it is cancelled."""

    def run(self) -> Coroutine[Any, Any, None]:
        """For ever."""


def reflector(hiding: Hiding) -> Loop:
    class Api:
        list = staticmethod(hiding.wait)

    return Reflector(
        cast(KubeApi, Api()), "/api/v1/pods", "", cast("Mirror[Any]", Empty()), lambda: None, Random(1)
    )


class Empty:
    """A mirror that has seen nothing."""

    version = ""


def membership(hiding: Hiding) -> Loop:
    class File(StaticMembership):
        async def load(self) -> None:
            await hiding.wait()

    return File(Path("/nowhere"))


@pytest.mark.parametrize(
    ("make", "failure"),
    [
        pytest.param(reflector, KubeError(0, "Broken", "for a test"), id="the watch of a cluster"),
        pytest.param(membership, OSError("for a test"), id="the membership file"),
    ],
)
async def test_it_ends_although_a_failure_hides_the_cancellation(
    make: Callable[[Hiding], Loop], failure: Exception
) -> None:
    hiding = Hiding(failure)
    task = asyncio.create_task(make(hiding).run())
    await hiding.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
