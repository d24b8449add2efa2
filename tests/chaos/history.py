# SPDX-License-Identifier: Apache-2.0
"""Every request of a run with its attempts, every fault, and what they must not show together. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import itemgetter

AFTER_FAULT_SECONDS = 5.0
"""Refusals may be seen for so long after a fault."""
AFTER_DEATH_SECONDS = 1.0
"""What was in flight on a killed process is told of its end within this."""
ANSWERED_AT_LEAST = 0.99


class Operation(StrEnum):
    """What a request does."""

    ADD = "add"
    ADD_WITH_KEY = "add with key"
    READ = "read"
    WORK = "work"
    """Takes its seconds in CPU time, and changes nothing."""


class End(StrEnum):
    """How a request ended for the application, which repeats what may be repeated."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """With a retryable code, until the application's patience ended."""
    UNKNOWN = "outcome unknown"
    LOST = "lost"
    """No end at all within twice its deadline."""
    FAILED = "failed"
    """Anything else: no fault excuses it."""


class Reply(StrEnum):
    """How one attempt ended."""

    ANSWERED = "answered"
    RETRYABLE = "retryable"
    UNKNOWN = "outcome unknown"
    NOT_SENT = "not sent"
    """No connection: nothing of it can have taken effect."""
    SILENT = "silent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request; times in seconds of a common clock.

    Attributes:
        code, detail: of the error; empty when answered.
        pod: that answered; empty when none did.
        broken: whether it ended with its connection to a gateway.
    """

    began: float
    ended: float
    reply: Reply
    code: str = ""
    pod: str = ""
    detail: str = ""
    broken: bool = False


@dataclass(slots=True)
class Sent:
    """One request.

    Attributes:
        due: when the schedule wanted it; its waiting time counts from there.
        takes_seconds: the agent takes so long for it, so that something is in flight when a part is killed.
        end: None while it is under way.
    """

    number: int
    project: str
    tier: str
    operation: Operation
    due: float
    takes_seconds: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    end: End | None = None

    @property
    def seconds(self) -> float:
        """From when it was due to its end, without the time that the agent takes."""
        return self.attempts[-1].ended - self.due - self.takes_seconds if self.attempts else 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that was broken.

    Attributes:
        kind: what was done, such as "SIGKILL host".
        part: the tier of the pod, or gateway, operator, redis.
        pod: its name.
        began: when the killing began.
        dead: when the process was gone.
        shared: whether any request may have been on it, as on a gateway.
    """

    kind: str
    part: str
    pod: str
    began: float
    dead: float
    shared: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.kind}, {self.part}"


@dataclass(frozen=True, slots=True)
class Check:
    """One demand on the run."""

    name: str
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds of a gap, in seconds."""

    floor: float
    target: float


@dataclass(frozen=True, slots=True)
class Ledgers:
    """What the agents had written down at the end, against what was acknowledged.

    Attributes:
        acknowledged: additions that were answered.
        missing: of these, not found.
        doubled: numbers found more than once.
        unasked: found, though the application was told that nothing was kept.
    """

    acknowledged: int
    missing: tuple[int, ...]
    doubled: tuple[int, ...]
    unasked: tuple[int, ...]


def compare(sent: Iterable[Sent], found: Mapping[str, Sequence[int]]) -> Ledgers:
    """Acknowledged additions against the lists by project."""
    counts = {project: Counter(numbers) for project, numbers in found.items()}
    missing, unasked, acknowledged = [], [], 0
    for one in sent:
        if one.operation is Operation.READ:
            continue
        there = counts.get(one.project, Counter())[one.number]
        if one.end is End.ANSWERED:
            acknowledged += 1
            missing += [one.number] * (not there)
        elif there and all(try_.reply in (Reply.RETRYABLE, Reply.NOT_SENT) for try_ in one.attempts):
            unasked.append(one.number)
    doubled = [number for count in counts.values() for number, times in count.items() if times > 1]
    return Ledgers(acknowledged, tuple(missing), tuple(sorted(doubled)), tuple(unasked))


def stray(sent: Iterable[Sent], faults: Sequence[Fault]) -> list[tuple[Sent, Attempt]]:
    """Refusals that no fault of the last seconds explains."""
    return [
        (one, attempt)
        for one in sent
        for attempt in one.attempts
        if attempt.reply in (Reply.RETRYABLE, Reply.NOT_SENT)
        and not any(fault.began <= attempt.ended <= fault.dead + AFTER_FAULT_SECONDS for fault in faults)
    ]


def homes(sent: Iterable[Sent]) -> dict[str, list[tuple[float, str]]]:
    """Where each project answered, in the order of time."""
    found: dict[str, list[tuple[float, str]]] = {}
    for one in sent:
        for attempt in one.attempts:
            if attempt.pod:
                found.setdefault(one.project, []).append((attempt.ended, attempt.pod))
    return {project: sorted(places) for project, places in found.items()}


def exposed(fault: Fault, sent: Iterable[Sent], homes_: Mapping[str, list[tuple[float, str]]]) -> int:
    """How many attempts were in flight on what a fault killed, while it was dying, or were sent over a
    connection of it whose end the application had not seen yet."""

    def was_there(project: str) -> bool:
        places = homes_.get(project, [])
        before = bisect_right(places, fault.dead, key=itemgetter(0))
        return before > 0 and places[before - 1][1] == fault.pod

    def in_flight(attempt: Attempt) -> bool:
        late = (
            fault.part == "gateway" and attempt.broken and attempt.began <= fault.dead + AFTER_DEATH_SECONDS
        )
        return attempt.ended >= fault.began and (attempt.began <= fault.dead or late)

    return sum(
        in_flight(attempt) and (fault.shared or was_there(one.project))
        for one in sent
        for attempt in one.attempts
    )


def unknown_after(fault: Fault, sent: Iterable[Sent]) -> int:
    """Attempts whose outcome became unknown by a fault."""
    return sum(
        attempt.reply is Reply.UNKNOWN and fault.began <= attempt.ended <= fault.dead + AFTER_DEATH_SECONDS
        for one in sent
        for attempt in one.attempts
    )


def unexplained(one: Sent, faults: Sequence[Fault]) -> bool:
    """Whether an outcome of a request became unknown with nothing killed that would explain it."""
    return any(attempt.reply is Reply.UNKNOWN for attempt in one.attempts) and not any(
        unknown_after(fault, (one,)) for fault in faults
    )


def gaps(sent: Iterable[Sent], faults: Sequence[Fault]) -> dict[tuple[str, str], float]:
    """The longest wait of an answered request by its tier and the fault that it met."""
    longest: dict[tuple[str, str], float] = {}
    for one in sent:
        if one.end is End.ANSWERED:
            key = one.tier, _met(one, faults)
            longest[key] = max(longest.get(key, 0.0), one.seconds)
    return longest


def _met(one: Sent, faults: Sequence[Fault]) -> str:
    """The fault of its own tier that fell into a request's time or shortly before, else any; "" for none."""
    ended = one.attempts[-1].ended
    near = [fault for fault in faults if fault.began <= ended and fault.dead + AFTER_FAULT_SECONDS >= one.due]
    own = [fault for fault in near if fault.part == one.tier]
    return own[-1].name if own else near[0].name if near else ""
