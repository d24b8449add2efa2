# SPDX-License-Identifier: Apache-2.0
"""Statistics of a pool."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agentpool_gateway.dispatch.stats import pool_stats
from agentpool_gateway.membership.base import HostMember, PoolName
from agentpool_gateway.membership.table import PoolTable
from agentpool_proto.v1.host_pb2 import HostCounters, HostStatus
from agentpool_proto.v1.types_pb2 import Instance
from support.builders import effective_pool


def table(counters: HostCounters, *states: str) -> PoolTable:
    found = PoolTable(effective_pool())
    host = found.add(HostMember(PoolName("default", "support"), "a", "uid", "127.0.0.1:1"))
    instances = [Instance(id=f"i-{n}", state=state, tier="WARM") for n, state in enumerate(states)]
    found.snapshot(host, HostStatus(incarnation="uid/1", ready=True, counters=counters), instances)
    return found


def test_a_new_pool_counts_nothing_and_has_a_whole_hit_rate() -> None:
    stats = pool_stats(PoolTable(effective_pool()), now=0.0)
    numbers = {
        name: value for name, value in msgspec.to_builtins(stats).items() if isinstance(value, int | float)
    }
    assert (numbers.pop("pool_hit_rate"), numbers.pop("success_rate")) == (1.0, 1.0)
    assert set(numbers.values()) == {0}
    assert stats.last_updated == "1970-01-01T00:00:00.000+00:00"


@pytest.mark.parametrize(("hits", "misses", "rate"), [(0, 1, 0.0), (1, 0, 1.0), (3, 1, 0.75), (0, 0, 1.0)])
def test_the_hit_rate_is_hits_over_all(hits: int, misses: int, rate: float) -> None:
    assert pool_stats(table(HostCounters(hits=hits, misses=misses)), 0.0).pool_hit_rate == rate


def test_the_mean_time_is_over_all_operations() -> None:
    stats = pool_stats(table(HostCounters(operations=4, operation_seconds=0.01)), 0.0)
    assert stats.average_operation_time_ms == 2.5


def test_states_are_told_apart_and_add_up() -> None:
    stats = pool_stats(
        table(HostCounters(), "READY", "READY", "BUSY", "PAUSED", "ERROR", "INITIALIZING"), 0.0
    )
    assert (stats.available, stats.busy, stats.paused, stats.total) == (2, 1, 1, 6)
    assert (stats.current_pool_size, stats.current_busy_agents) == (2, 1)
    assert sum(stats.per_state.values()) == sum(stats.per_tier.values()) == stats.total


async def test_awaiting_stats_says_what_to_do_instead() -> None:
    stats: Any = pool_stats(PoolTable(effective_pool()), 0.0)
    with pytest.raises(TypeError, match="without await"):
        await stats
