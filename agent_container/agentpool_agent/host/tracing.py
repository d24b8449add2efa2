# SPDX-License-Identifier: Apache-2.0
"""The trace of one request at its host, told when it has ended, from the times that are kept anyway.

    host.invoke --+-- activation --+-- claim, turn, load, worker, setup, restore
                  +-- admission
                  +-- worker.handle --+-- the agent's own spans
                  +-- commit
A worker runs a tenant's code: what it says of times is kept within those of its request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.table import Entry
from agentpool_agent.wire.frames import SpanRecord
from agentpool_rpc.tracing import Span, at_fault

if TYPE_CHECKING:
    from agentpool_agent.host.invoke import Call

INVOKE = "host.invoke"
SPANS = 32
"""Most spans that a worker may note of one request."""
NAME_CHARS = 64
MAX_ATTRIBUTES = 17
VALUE_CHARS = 256


def tell(span: Span, call: Call, status: str, now: float) -> None:
    """Add the steps of a request to its span, and end it.

    Args:
        status: success, cancelled, or an error's code.
        now: its end, on the host's clock.
    """
    span.note({"agentpool.outcome": status})
    resident, exchange = call.resident, call.exchange
    entry = resident.entry if resident is not None else None
    if entry is not None:
        span.note({"agentpool.tier": entry.tier.value, "agentpool.instance": entry.instance_id})
    if call.activated_at:
        _activation(span, call, entry)
    if call.admitted_at:
        span.add("admission", call.activated_at or call.arrived, call.admitted_at)
    if exchange is not None:
        _work(span, call, exchange, now)
    span.end(now, status if at_fault(status) else "")


def _activation(span: Span, call: Call, entry: Entry | None) -> None:
    laps = entry.laps if entry is not None else None
    mine = laps is not None and laps.began >= call.arrived
    # A request that comes during an activation waits for it; its steps are told by the one that began it.
    whole = span.add("activation", call.arrived, call.activated_at, {"agentpool.joined": not mine})
    if laps is not None and mine:
        for stage, began, ended in laps:
            whole.add(f"activation.{stage.value}", began, ended)


def _work(span: Span, call: Call, exchange: Exchange, now: float) -> None:
    accept = call.admitted_at or call.arrived
    _noted(span, exchange.spans[:SPANS], accept, exchange.saving_at or exchange.finished_at or now)
    if exchange.saving_at:
        failed = exchange.error.code if exchange.error is not None else ""
        span.add("commit", exchange.saving_at, exchange.finished_at or now, error=failed)


def _noted(span: Span, records: Sequence[SpanRecord], first: float, last: float) -> None:
    made: list[Span] = []
    for record in records:
        around = made[record.parent] if 0 <= record.parent < len(made) else span
        # Written so that what is not a number is out of bounds, too.
        began = record.began if first <= record.began <= last else first
        ended = record.ended if began <= record.ended <= last else last
        attributes = _bounded(record.attributes)
        made.append(around.add(record.name[:NAME_CHARS], began, ended, attributes, record.error[:NAME_CHARS]))


def _bounded(found: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    kept: dict[str, str | int | float | bool] = {}
    for name, value in list(found.items())[:MAX_ATTRIBUTES]:
        if isinstance(value, str):
            kept[name[:NAME_CHARS]] = value[:VALUE_CHARS]
        elif isinstance(value, float) or abs(value) < 2**63:
            kept[name[:NAME_CHARS]] = value
    return kept
