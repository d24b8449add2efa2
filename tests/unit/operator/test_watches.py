# SPDX-License-Identifier: Apache-2.0
"""kopf runs for as long as all its watches do."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_operator.handlers.watches import WatchesEnded, watched


async def kopf_with(*watches: asyncio.Event) -> None:
    """A loop with one task for each watch, as kopf names them; a watch ends when its event is set."""
    tasks = [
        asyncio.create_task(one.wait(), name=f"watcher for {number}") for number, one in enumerate(watches)
    ]
    try:
        await asyncio.Event().wait()
    finally:
        for task in tasks:
            task.cancel()


async def test_a_watch_that_ends_alone_ends_the_rest() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(watched(kopf_with(first, second), 0.01, 0.0))
    await asyncio.sleep(0.05)
    assert not running.done()
    second.set()
    with pytest.raises(WatchesEnded, match="1 of 2 watches ended"):
        await running


async def test_an_end_of_kopf_itself_is_passed_on() -> None:
    async def broken() -> None:
        raise OSError("no API server")

    with pytest.raises(OSError, match="no API server"):
        await watched(broken(), 0.01, 0.0)


async def test_a_stop_in_good_order_is_no_error() -> None:
    async def ends() -> None:
        await asyncio.sleep(0)

    await watched(ends(), 0.01, 0.0)


def test_what_kopf_closes_has_time_to_end() -> None:
    ended: list[str] = []

    async def closes() -> None:
        asyncio.get_running_loop().call_later(0.1, ended.append, "a connection")

    asyncio.run(watched(closes(), 0.01, 0.25))
    assert ended
