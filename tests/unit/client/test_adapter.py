# SPDX-License-Identifier: Apache-2.0
"""The adapter for older programs: switched off, misconfigured, and used the wrong way."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentpool_client.adapter import PoolManager, get_global_adapter, open_adapter
from agentpool_client.answers import Stats
from agentpool_client.sync import AgentPool as ThreadPool
from agentpool_core.errors import InvalidRequest, PoolDisabled, Unavailable


async def reversed_text(text: str) -> str:
    """How it was done before there was a pool."""
    return text[::-1]


async def test_with_the_pool_off_there_is_no_manager_and_the_old_way_is_taken() -> None:
    adapter = await open_adapter({"AGENT_POOL_ENABLED": "false"})
    assert adapter._pool_manager is None
    assert not adapter.enabled
    assert await adapter.process("acme", "p", "abc", otherwise=reversed_text) == "cba"
    with pytest.raises(PoolDisabled):
        await adapter.process("acme", "p", "abc")
    await adapter.close()


def test_the_adapter_that_was_not_awaited_says_so() -> None:
    with pytest.raises(TypeError, match=r"await get_global_adapter\(\)"):
        get_global_adapter()._pool_manager  # noqa: B018


async def test_statistics_that_are_awaited_say_so() -> None:
    with pytest.raises(TypeError, match="without await"):
        await Stats(total=1)


def test_statistics_that_were_never_read_say_so() -> None:
    with pytest.raises(Unavailable, match="No statistics"):
        PoolManager(ThreadPool("gateway:9000")).get_stats()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"AGENT_POOL_ENABLED": "perhaps"}, "AGENT_POOL_ENABLED"),
        ({"AGENTPOOL_CLIENT_URL": "http://gateway:8000"}, "grpc://"),
        ({"AGENTPOOL_CLIENT_POOL": "support"}, "NAMESPACE/NAME"),
        ({"AGENTPOOL_CLIENT_TOKEN_FILE": "missing-file"}, "missing-file"),
    ],
)
async def test_a_variable_that_is_wrong_is_named(environ: dict[str, str], named: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=named):
        await open_adapter(environ)
