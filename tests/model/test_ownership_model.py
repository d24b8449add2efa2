# SPDX-License-Identifier: Apache-2.0
"""The ownership protocol holds under crash, freeze, loss of data, late messages and wrong proof; and the
machine that says so finds planted bugs. `FULL=1` runs ten times as many examples."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from agentpool_agent.store.client import RedisClient
from agentpool_agent.store.scripts import read_fragments
from support.redis import redis_server

from .beyond import PreviousMachine, StateMachine
from .failover import FailoverMachine, StoreMachine, machine
from .others import OwnershipMachine

pytestmark = pytest.mark.model

EXAMPLES = 2000 if os.environ.get("FULL") == "1" else 200

BASE = settings(
    stateful_step_count=40,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(loop: asyncio.AbstractEventLoop) -> Iterator[RedisClient]:
    with redis_server() as server:
        made = RedisClient(server.url, timeout_seconds=10)
        yield made
        loop.run_until_complete(made.close())


@pytest.mark.timeout(600)
def test_the_protocol_holds(client: RedisClient, loop: asyncio.AbstractEventLoop) -> None:
    run_state_machine_as_test(
        machine(StoreMachine, client, loop, read_fragments()), settings=settings(BASE, max_examples=EXAMPLES)
    )


PLANTED = [
    pytest.param(
        "prelude",
        "if held[1] == owner and held[2] == epoch then return nil end",
        "if held[1] == owner then return nil end",
        id="the epoch of a write is not compared",
    ),
    pytest.param(
        "claim", "or ARGV[i] == holder end", "or true end", id="the proof names any owner instead of this one"
    ),
    pytest.param("claim", "if not proven then", "if false then", id="the proof is not asked for"),
    pytest.param("claim", "if holder == owner then", "if holder ~= '' then", id="the owner is not compared"),
    pytest.param(
        "prelude",
        "pod == same_pod and later_nonce > nonce",
        "pod == same_pod and later_nonce ~= nonce",
        id="an earlier life of a pod takes over from a later one",
    ),
    pytest.param(
        "claim",
        "math.max(tonumber(held[2] or '0') + 1, now)",
        "tonumber(held[2] or '0') + 1",
        id="epochs start again after a loss of data",
    ),
    pytest.param("claim", "if waiting > 0 then return LOST end", "", id="claims are won during recovery"),
    pytest.param("save", "if version > base then return {'GONE'} end", "", id="writes mix with unheard ones"),
    pytest.param(
        "save",
        "if version == base + 1 and held[2] == ARGV[10] then",
        "if version == base + 1 then",
        id="another unheard write is taken for the one that comes again",
    ),
    pytest.param(
        "save",
        "if version == base + 1 and held[2] == ARGV[10] then",
        "if false then",
        id="a write that comes again is not recognised",
    ),
    pytest.param(
        "prelude",
        "redis.call('ZREM', OWNERS, held[1] .. '|' .. id)\n  count(held[2], held[3], -1)",
        "redis.call('ZREM', OWNERS, held[1] .. '|' .. id)",
        id="a release is not counted",
    ),
    pytest.param(
        "write",
        "local rate, kept, lifetime = ARGV[at], tonumber(ARGV[at + 1])",
        "local rate, kept, lifetime = ARGV[at], 0",
        id="final events are not kept",
    ),
    pytest.param("register", "not may_register()", "false", id="anybody may register at any time"),
    pytest.param("erase", "if not proven then", "if false then", id="an instance is erased without proof"),
]

PLANTED_IN_PREVIOUS = [
    pytest.param(
        "write",
        "redis.call('HSET', PREVIOUS, 'part:' .. name, body)",
        "redis.call('HSET', PREVIOUS, 'none:' .. name, '')",
        id="a replaced part is not kept",
    ),
    pytest.param(
        "save",
        "then take_back() end",
        "then end",
        id="a recovered state is mixed with the damaged one",
    ),
    pytest.param(
        "write",
        "    redis.call('DEL', PREVIOUS)\n    redis.call('HSET', PREVIOUS, 'epoch', epoch)",
        "    redis.call('HSET', PREVIOUS, 'epoch', epoch)",
        id="what an earlier write replaced stays",
    ),
]

PLANTED_IN_STATE = [
    pytest.param("note", "if refused then return refused end", "", id="anybody may note failures"),
    pytest.param(
        "plant",
        "if holder ~= '' then return {'NOT_OWNER', holder} end",
        "",
        id="a state is planted under its holder",
    ),
    pytest.param("place", "if holder ~= '' then", "if false then", id="a holder is placed elsewhere"),
    pytest.param("prune", "held[1] == '' and", "", id="a held instance is removed"),
    pytest.param("release", "if ARGV[11] ~= '' then", "if false then", id="a move does not change the tier"),
]

PLANTED_IN_FAILOVER = [
    pytest.param("greet", "if address ~= '' then", "if false then", id="a failover is not noticed"),
    pytest.param(
        "register",
        "return ARGV[7] ~= generation or waiting > 0 end",
        "return ARGV[7] ~= generation end",
        id="what the new master never saw cannot be registered",
    ),
    pytest.param(
        "erase",
        "if waiting > 0 and holder ~= ARGV[5] then return LOST end",
        "",
        id="an instance is erased before its holder could register",
    ),
]


def assert_found(
    kind: type[OwnershipMachine],
    client: RedisClient,
    loop: asyncio.AbstractEventLoop,
    change: tuple[str, str, str],
) -> None:
    fragment, right, wrong = change
    fragments = read_fragments()
    assert fragments[fragment].count(right) == 1, "the text to be altered is not there"
    fragments[fragment] = fragments[fragment].replace(right, wrong)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine(kind, client, loop, fragments),
            # The same examples each time, so that finding it is not left to luck.
            settings=settings(BASE, max_examples=2000, phases=[Phase.generate], derandomize=True),
        )


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fragment", "right", "wrong"), PLANTED)
def test_a_planted_bug_is_found(
    client: RedisClient, loop: asyncio.AbstractEventLoop, fragment: str, right: str, wrong: str
) -> None:
    assert_found(OwnershipMachine, client, loop, (fragment, right, wrong))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fragment", "right", "wrong"), PLANTED_IN_PREVIOUS)
def test_a_planted_bug_of_the_previous_state_is_found(
    client: RedisClient, loop: asyncio.AbstractEventLoop, fragment: str, right: str, wrong: str
) -> None:
    assert_found(PreviousMachine, client, loop, (fragment, right, wrong))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fragment", "right", "wrong"), PLANTED_IN_STATE)
def test_a_planted_bug_around_states_is_found(
    client: RedisClient, loop: asyncio.AbstractEventLoop, fragment: str, right: str, wrong: str
) -> None:
    assert_found(StateMachine, client, loop, (fragment, right, wrong))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fragment", "right", "wrong"), PLANTED_IN_FAILOVER)
def test_a_planted_bug_of_failovers_is_found(
    client: RedisClient, loop: asyncio.AbstractEventLoop, fragment: str, right: str, wrong: str
) -> None:
    assert_found(FailoverMachine, client, loop, (fragment, right, wrong))
