# SPDX-License-Identifier: Apache-2.0
"""Circuit breakers as hosts report them: what is refused without a hop, and what is counted."""

from __future__ import annotations

from collections.abc import Iterable

from agentpool_core.resilience import BreakerState, circuit_open
from agentpool_gateway.membership.table import PoolTable
from agentpool_proto.v1.types_pb2 import Instance

_STATES = frozenset(BreakerState)


def check_breaker(table: PoolTable, instance_id: str, now: float) -> None:
    """Raise CircuitOpen when the instance's host said so; `now`: seconds since 1970. Only its host knows when
    that is over, and has the last word in everything else."""
    host = table.owner(instance_id)
    if host is None or not host.connected:
        return
    instance = host.instances[instance_id]
    if breaker_state(instance) is BreakerState.OPEN:
        refusal = circuit_open(instance.breaker.consecutive_failures, instance.breaker.open_until, now)
        if refusal is not None:
            raise refusal


def breaker_state(instance: Instance) -> BreakerState:
    """The state of an instance's breaker as it was reported."""
    known = instance.HasField("breaker") and instance.breaker.state in _STATES
    return BreakerState(instance.breaker.state) if known else BreakerState.CLOSED


def breaker_counts(instances: Iterable[Instance]) -> dict[str, int]:
    """Instances by the state of their breakers."""
    counts = dict.fromkeys(map(str, BreakerState), 0)
    for instance in instances:
        counts[breaker_state(instance)] += 1
    return counts
