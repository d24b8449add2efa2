# SPDX-License-Identifier: Apache-2.0
"""What a call knows of its request when its channel is closed under it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agentpool_core.balance import HostLoad
from agentpool_gateway.dispatch.call import Milestones
from agentpool_gateway.dispatch.host_call import HostCall, StreamCall, UnaryCall
from agentpool_gateway.membership.watcher import HostLink
from agentpool_proto.v1.host_pb2 import HostInvokeRequest


class Closed:
    """A call of a channel that was closed: gRPC cancels it."""

    def __await__(self) -> Generator[Any, None, Any]:
        raise asyncio.CancelledError
        yield

    async def read(self) -> None:
        """The same for a stream."""
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        pytest.param(StreamCall, False, id="no event: it was not accepted"),
        pytest.param(UnaryCall, True, id="nobody can tell: it may have been"),
    ],
)
async def test_a_channel_that_is_closed_is_a_break(kind: type[HostCall], accepted: bool) -> None:
    load = HostLoad()
    stub = SimpleNamespace(Invoke=lambda *_, **__: Closed(), InvokeUnary=lambda *_, **__: Closed())
    link = cast(HostLink, SimpleNamespace(stub=stub, host=SimpleNamespace(load=load), unary=True))
    call = kind(link, Milestones(0.0), HostInvokeRequest(), (), 1.0)
    assert load.metrics.active_commands == 1
    assert await call.read() is None
    assert (call.accepted, call.again, load.metrics.active_commands) == (accepted, False, 0)
