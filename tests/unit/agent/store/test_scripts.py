# SPDX-License-Identifier: Apache-2.0
"""The Lua is complete, and a store is opened by its address."""

from __future__ import annotations

import hashlib
import re

import pytest

from agentpool_agent.store import MemoryStore, RedisStore, open_store
from agentpool_agent.store.scripts import SCRIPTS, read_fragments


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - {"greet"}))
def test_every_script_starts_with_the_prelude_and_ends_with_its_own_text(name: str) -> None:
    fragments = read_fragments()
    source = SCRIPTS[name].source
    assert source.startswith(fragments["prelude"]) and source.endswith(fragments[name])
    assert SCRIPTS[name].sha == hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own choice


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_answers_with_stored_bodies(name: str) -> None:
    # A script that returns megabytes holds up everybody: Redis has one thread.
    answers = re.findall(r"return \{.*", SCRIPTS[name].source)
    assert answers
    assert not any("CHECKPOINT" in answer or "PREVIOUS" in answer for answer in answers)


async def test_a_url_opens_redis_and_none_opens_memory() -> None:
    memory = open_store(None, pool_uid="uid", namespace="ns", pool="pool")
    redis = open_store("redis://127.0.0.1:1", pool_uid="uid", namespace="ns", pool="pool")
    assert (type(memory), memory.shared) == (MemoryStore, False)
    assert (type(redis), redis.shared) == (RedisStore, True)
    await redis.close()


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="scheme"):
        open_store("http://example.test", pool_uid="uid", namespace="ns", pool="pool")
