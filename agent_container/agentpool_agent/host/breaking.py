# SPDX-License-Identifier: Apache-2.0
"""The circuit breakers of a host's instances. An instance lives on one host at a time, so they are exact.

A breaker goes with its instance: it stays in the table's entry while the host knows that, and travels behind
the rate bucket in the checkpoint. That it opened or closed is written at once, so a host that is killed takes
no more along than failures that had opened nothing yet.
"""

from __future__ import annotations

import zlib

import structlog

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry
from agentpool_core.lifecycle import State
from agentpool_core.recovery import Cause
from agentpool_core.resilience import BreakerState, CircuitBreaker, Outcome, Pass, outcome_of

log = structlog.get_logger(__name__)

SLACK_SECONDS = 0.02
"""A caller whose deadline passes ends its call a little before or after the host's own clock says so."""


def breaker_of(instance_id: str, before: Entry | None) -> CircuitBreaker:
    """The breaker of an instance that is about to be activated: what this host knows of it, or a new one."""
    if before is not None and before.state is not State.TERMINATED:
        return before.breaker
    return CircuitBreaker(spread=zlib.crc32(instance_id.encode()) / 2**32)


def enter(host: Host, entry: Entry) -> Pass:
    """Let a request through; raises CircuitOpen."""
    before = entry.breaker.state
    try:
        return entry.breaker.enter(host.breakers, host.wall())
    finally:
        _tell(host, entry, before)


def settle(host: Host, resident: Resident, exchange: Exchange) -> None:
    """A request that was let through has ended."""
    given, entry = exchange.given, resident.entry
    if given is None or given.used:
        return
    before, failures = entry.breaker.state, entry.breaker.failures
    entry.breaker.leave(given, _outcome(host, resident, exchange), host.breakers, host.wall())
    _tell(host, entry, before)
    if entry.breaker.failures != failures and entry.breaker.state is before:
        host.table.changed(entry.instance_id, False)


def _outcome(host: Host, resident: Resident, exchange: Exchange) -> Outcome:
    if not exchange.started or host.draining or resident.cause is Cause.HOST_LOST:
        # Refused before the agent had it, or cut off by its surroundings.
        return Outcome.NEITHER
    if exchange.output is not None or exchange.error is not None:
        return outcome_of(exchange.error)
    # Nobody waits any more: because the time was over, or for reasons of the caller's own.
    late = host.clock() >= exchange.deadline - SLACK_SECONDS
    return Outcome.FAILURE if late else Outcome.NEITHER


def _tell(host: Host, entry: Entry, before: BreakerState) -> None:
    breaker = entry.breaker
    if breaker.state is before:
        return
    # HALF_OPEN follows from OPEN and the time.
    entry.breaker_due = entry.breaker_due or breaker.state is not BreakerState.HALF_OPEN
    host.table.changed(entry.instance_id, True)
    log.warning(
        "breaker_changed",
        instance=entry.instance_id,
        state=breaker.state,
        before=before,
        failures=breaker.failures,
        reopenings=breaker.reopenings,
    )
