# SPDX-License-Identifier: Apache-2.0
"""The guards of unit tests fire: no sleep, no network, no call that blocks an event loop, a short limit."""

from __future__ import annotations

import os
import socket
import time

import pytest
from blockbuster import BlockingError


def test_a_sleep_fails() -> None:
    with pytest.raises(AssertionError, match=r"time\.sleep in a unit test"):
        time.sleep(0)


def test_a_connection_fails() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match=r"socket\.connect in a unit test"):
        client.connect(("127.0.0.1", 9))


def test_a_listener_fails() -> None:
    with socket.socket() as server, pytest.raises(AssertionError, match=r"socket\.bind in a unit test"):
        server.bind(("127.0.0.1", 0))


async def test_a_call_that_blocks_the_event_loop_fails() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BlockingError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_unit_test_has_two_seconds(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("timeout")
    assert marker is not None
    assert marker.args == (2,)
