# SPDX-License-Identifier: Apache-2.0
"""Unit tests touch neither network nor clock: a connection, a listener or a sleep fails the test."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster

FORBIDDEN = frozenset({"socket.connect", "socket.bind"})
_guarded: list[str] = []


def _refuse(event: str, _arguments: tuple[Any, ...] = ()) -> None:
    if _guarded and event in FORBIDDEN:
        raise AssertionError(f"{event} in a unit test; a test that needs it belongs in tests/component")


def _no_sleep(_seconds: float) -> None:
    raise AssertionError("time.sleep in a unit test; a test that needs it belongs in tests/component")


# A hook sees the calls of every library, also those that took the function by name before.
sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def guarded(
    request: pytest.FixtureRequest, no_blocking_calls: BlockBuster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """While a test runs, network, sleep, and calls that block an event loop are errors."""
    monkeypatch.setattr(time, "sleep", _no_sleep)
    _guarded.append(request.node.nodeid)
    try:
        yield
    finally:
        _guarded.clear()
