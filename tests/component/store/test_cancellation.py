# SPDX-License-Identifier: Apache-2.0
"""A caller that gives up leaves no reply to another, and no connection lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from agentpool_agent.store.client import MAX_CONNECTIONS, RedisClient
from agentpool_agent.store.scripts import SCRIPTS
from support.redis import RedisServer
from support.store_calls import KEYS

KEYS_OF_A_POOL = (KEYS.generation, KEYS.index, KEYS.owners, KEYS.counts)
ARGUMENTS = ("", "g1", 0, "")


async def test_a_cancelled_command_never_leaves_its_reply_to_another(own_server: RedisServer) -> None:
    client = RedisClient(own_server.url)
    draw = random.Random(7)
    cancelled = 0
    for number in range(400):
        victim = asyncio.create_task(client.command("ECHO", f"victim-{number}"))
        for _ in range(draw.randrange(8)):
            await asyncio.sleep(0)
        victim.cancel()
        with suppress(asyncio.CancelledError):
            await victim
        cancelled += victim.cancelled()
        replies = await asyncio.gather(*(client.command("ECHO", f"{number}-{i}") for i in range(3)))
        assert replies == [f"{number}-{i}".encode() for i in range(3)]
    assert cancelled > 100
    await client.close()


VICTIMS: dict[str, Callable[[RedisClient], Awaitable[object]]] = {
    "a command": lambda client: client.command("ECHO", "victim"),
    "a script": lambda client: client.run(SCRIPTS["observe"], KEYS_OF_A_POOL, ARGUMENTS),
    "a pipeline": lambda client: client.pipeline([("ECHO", "victim"), ("ECHO", "victim")]),
}


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_reply_that_comes_after_its_caller_gave_up_reaches_nobody(
    own_server: RedisServer, victim: str
) -> None:
    client = RedisClient(own_server.url)
    await client.command("PING")
    for number in range(20):
        own_server.freeze()
        waiting = asyncio.ensure_future(VICTIMS[victim](client))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        others = [asyncio.create_task(client.command("ECHO", f"{number}-{i}")) for i in range(2)]
        await asyncio.sleep(0.01)
        own_server.thaw()
        assert await asyncio.gather(*others) == [f"{number}-{i}".encode() for i in range(2)]
    await client.close()


async def test_cancelled_callers_give_their_connections_back(own_server: RedisServer) -> None:
    client = RedisClient(own_server.url, timeout_seconds=5)
    await client.command("PING")
    for _ in range(3):
        own_server.freeze()
        victims = [asyncio.create_task(client.command("PING")) for _ in range(2 * MAX_CONNECTIONS)]
        await asyncio.sleep(0.05)
        for victim in victims:
            victim.cancel()
        assert all(
            isinstance(outcome, asyncio.CancelledError)
            for outcome in await asyncio.gather(*victims, return_exceptions=True)
        )
        own_server.thaw()
    replies = await asyncio.gather(*(client.command("ECHO", i) for i in range(4 * MAX_CONNECTIONS)))
    assert replies == [str(i).encode() for i in range(4 * MAX_CONNECTIONS)]
    await client.close()
