# SPDX-License-Identifier: Apache-2.0
"""Writes of one host take turns by tenant."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from agentpool_agent.host.saving import in_turn
from agentpool_agent.host.turns import Turns
from agentpool_core.errors import StoreUnavailable


async def test_a_tenant_with_many_writes_does_not_go_before_one_with_a_single_write() -> None:
    turns, made = Turns(1, 100), list[str]()

    async def write(name: str) -> None:
        await asyncio.sleep(0)
        made.append(name)

    names = ["a1", "a2", "a3", "a4", "b1"]
    await asyncio.gather(*(in_turn(turns, name[0], partial(write, name)) for name in names))
    assert made.index("b1") <= 2


async def test_what_never_had_its_turn_was_not_sent() -> None:
    turns, sent = Turns(1, 100), list[str]()

    async def write() -> None:
        sent.append("it")

    async with turns.turn("other"):
        with pytest.raises(StoreUnavailable) as refused:
            await in_turn(turns, "t", write, seconds=0.01)
    assert (sent, refused.value.unheard) == ([], False)
    await in_turn(turns, "t", write)
    assert sent == ["it"]


async def test_a_time_out_of_the_write_itself_stays_what_it_is() -> None:
    turns = Turns(1, 100)

    async def write() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await in_turn(turns, "t", write)
