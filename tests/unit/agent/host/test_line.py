# SPDX-License-Identifier: Apache-2.0
"""Waiting for a permit: in order, bounded in number and time, and nothing is lost when somebody goes."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_agent.host.line import Line
from agentpool_core.errors import ConcurrencyExceeded


class Instance:
    """Two permits, and requests that wait for them."""

    def __init__(self, limit: int = 2) -> None:
        self.line, self.limit, self.held = Line(), limit, 0
        self.served: list[str] = []

    async def ask(self, name: str, most: int = 10, seconds: float = 1.0) -> bool:
        """What a request does until it has its permit; False: it looks again."""
        if self.line.must_wait(self.held, self.limit):
            if not await self.line.wait(self.limit, most, seconds):
                return False
            self.line.taken()
        self.held += 1
        assert self.held <= self.limit
        self.served.append(name)
        return True

    def end(self) -> None:
        """A request ends."""
        self.held -= 1
        self.line.give(self.held, self.limit)

    async def line_up(self, *names: str) -> list[asyncio.Task[bool]]:
        """These wait, in this order."""
        tasks = [asyncio.ensure_future(self.ask(name)) for name in names]
        await asyncio.sleep(0)
        return tasks


async def test_permits_go_to_those_who_wait_in_their_order() -> None:
    one = Instance()
    assert [await one.ask("a"), await one.ask("b")] == [True, True]
    tasks = await one.line_up("c", "d", "e")
    assert len(one.line) == 3
    one.end()
    one.end()
    late = asyncio.ensure_future(one.ask("late"))
    await asyncio.gather(*tasks[:2])
    one.end()
    await tasks[2]
    one.end()
    await late
    assert one.served == ["a", "b", "c", "d", "e", "late"]


async def test_who_comes_in_the_moment_of_a_release_does_not_go_first() -> None:
    one = Instance(limit=1)
    await one.ask("a")
    (first,) = await one.line_up("b")
    one.end()
    assert one.line.must_wait(one.held, one.limit), "the permit is kept for who waited"
    assert await first


async def test_a_full_line_and_a_line_of_no_length_refuse_at_once() -> None:
    one = Instance(limit=1)
    await one.ask("a")
    await one.line_up("b")
    for most, seconds in ((1, 1.0), (0, 1.0), (5, 0.0)):
        with pytest.raises(ConcurrencyExceeded) as refused:
            await one.ask("c", most, seconds)
        assert refused.value.retry_after_seconds == 1.0


async def test_the_wait_ends_with_its_time() -> None:
    one = Instance(limit=1)
    await one.ask("a")
    with pytest.raises(ConcurrencyExceeded):
        await one.ask("b", seconds=0.01)
    assert len(one.line) == 0
    one.end()
    assert await one.ask("c")


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "with a permit kept for it"])
async def test_who_goes_leaves_the_permit_to_the_next(given: bool) -> None:
    one = Instance(limit=1)
    await one.ask("a")
    gone, stays = await one.line_up("gone", "stays")
    if given:
        one.end()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    if not given:
        one.end()
    assert await stays
    one.end()
    assert not one.line.must_wait(one.held, one.limit)


async def test_everybody_looks_again_when_the_instance_leaves() -> None:
    one = Instance(limit=1)
    await one.ask("a")
    tasks = await one.line_up("b", "c")
    one.line.interrupt()
    assert await asyncio.gather(*tasks) == [False, False]
    assert len(one.line) == 0


async def test_a_larger_limit_lets_more_in() -> None:
    one = Instance(limit=1)
    await one.ask("a")
    tasks = await one.line_up("b", "c", "d")
    one.limit = 3
    one.line.give(one.held, one.limit)
    await asyncio.gather(*tasks[:2])
    assert (one.served, len(one.line)) == (["a", "b", "c"], 1)
    one.end()
    assert await tasks[2]
