# SPDX-License-Identifier: Apache-2.0
"""What the gateway counts of one pool's requests: plain numbers, looked up once per pool, not per request."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from agentpool_core.errors import BY_CODE
from agentpool_gateway.dispatch.call import CANCELLED, SUCCESS, Milestones, ServedBy
from agentpool_rpc.metrics import LATENCY_BUCKETS, Distribution

OVERHEAD_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0)
SERVER_FAULT = 500


class Outcome(StrEnum):
    """How a request ended, in few words: the codes are in `agent_pool_requests_total`."""

    SUCCESS = "success"
    REFUSED = "refused"
    """An error of the caller, or of a limit that the caller ran into: HTTP 4xx."""
    FAILED = "failed"
    """An error of ours, of the agent, or of what it needs: HTTP 5xx."""
    CANCELLED = "cancelled"
    """The caller went away."""


class Phase(StrEnum):
    """What a request reached, each counted from its arrival."""

    PLACED = "placed"
    """A host was chosen and called, for the last time if there were several."""
    ACCEPTED = "accepted"
    """The host said that the request may take effect now."""
    ADMITTED = "admitted"
    """The instance had a permit for it, by the host's clock."""
    FIRST_BYTE = "first_byte"
    """The first event of the agent came."""
    DONE = "done"
    """The answer was whole, and durable if it changed anything."""


class Activation(StrEnum):
    """What an accepted request found."""

    HIT = "hit"
    """The instance was resident."""
    NEW = "new"
    """It was made for the first time."""
    RESTORED = "restored"
    """It was woken from its saved state."""


_FIXED = {SUCCESS: Outcome.SUCCESS, CANCELLED: Outcome.CANCELLED}
OUTCOMES = _FIXED | {
    code: Outcome.FAILED if error.http_status >= SERVER_FAULT else Outcome.REFUSED
    for code, error in BY_CODE.items()
}
OTHER = "Other"
"""Status of an error that is not in the table; there is none as long as the table is whole."""


class PoolCounts:
    """The numbers of one pool."""

    __slots__ = ("activations", "in_flight", "latency", "overhead", "phases", "statuses", "ways")

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.in_flight = 0
        self.latency = {outcome: Distribution(LATENCY_BUCKETS) for outcome in Outcome}
        self.phases = {phase: Distribution(LATENCY_BUCKETS) for phase in Phase}
        self.ways = {
            (served_by, outcome): Distribution(LATENCY_BUCKETS)
            for served_by in ServedBy
            for outcome in Outcome
        }
        self.overhead = Distribution(OVERHEAD_BUCKETS)
        self.activations = dict.fromkeys(Activation, 0)

    def ended(self, status: str, seconds: float, marks: Milestones) -> None:
        """A request ended: `status` is `success`, `Cancelled` or an error's code."""
        outcome = OUTCOMES.get(status)
        if outcome is None:
            status, outcome = OTHER, Outcome.FAILED
        self.statuses[status] += 1
        self.latency[outcome].observe(seconds)
        self.ways[marks.served_by, outcome].observe(seconds)
        arrived, phases = marks.arrived, self.phases
        if marks.placed:
            phases[Phase.PLACED].observe(marks.placed - arrived)
        if marks.accepted:
            phases[Phase.ACCEPTED].observe(marks.accepted - arrived)
            kind = Activation.HIT
            if marks.activated:
                kind = Activation.RESTORED if marks.restored else Activation.NEW
            self.activations[kind] += 1
        if marks.first_event:
            phases[Phase.FIRST_BYTE].observe(marks.first_event - arrived)
        if outcome is Outcome.SUCCESS:
            phases[Phase.DONE].observe(seconds)
            # A repetition that is answered from its key is never admitted.
            if marks.host_admitted_seconds:
                phases[Phase.ADMITTED].observe(marks.placed - arrived + marks.host_admitted_seconds)
            self.overhead.observe(max(seconds - marks.host_seconds, 0.0))
