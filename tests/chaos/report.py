# SPDX-License-Identifier: Apache-2.0
"""What a run of faults shows, held against what is asked for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from chaos.campaign import Run
from chaos.history import (
    AFTER_FAULT_SECONDS,
    ANSWERED_AT_LEAST,
    Check,
    End,
    Fault,
    Limit,
    Operation,
    Reply,
    Sent,
    exposed,
    gaps,
    homes,
    stray,
    unexplained,
    unknown_after,
)

GAPS = {"HOT": Limit(3.0, 1.0), "WARM": Limit(5.0, 2.0)}
"""Of requests that meet a killed worker, zygote, host or pod of their tier; the design has none for COLD."""
TIERS = ("HOT", "WARM", "COLD")


def checks(run: Run) -> list[Check]:
    """Every demand."""
    ends = Counter(one.end for one in run.sent)
    answered = ends[End.ANSWERED] / len(run.sent) if run.sent else 0.0
    stray_ = stray(run.sent, run.faults)
    ledgers = run.ledgers
    return [
        Check("answered", answered >= ANSWERED_AT_LEAST, f"{100 * answered:.3f} %, at least 99 %"),
        Check(
            f"refused only within {AFTER_FAULT_SECONDS:g} s of a fault",
            not stray_,
            f"{len(stray_)} outside: {_codes(attempt.code for _, attempt in stray_)}",
        ),
        _unknown(run),
        Check("lost", ends[End.LOST] == 0, str(ends[End.LOST])),
        Check("failed otherwise", ends[End.FAILED] == 0, f"{ends[End.FAILED]}: {_failed(run)}"),
        Check(
            "acknowledged increments found exactly once",
            not ledgers.missing and not ledgers.doubled,
            f"{ledgers.acknowledged} acknowledged, {len(ledgers.missing)} missing,"
            f" {len(ledgers.doubled)} found twice",
        ),
        Check("refused increments not found", not ledgers.unasked, str(len(ledgers.unasked))),
        *_gap_checks(run),
    ]


def _unknown(run: Run) -> Check:
    at = homes(run.sent)
    counts = [(fault, unknown_after(fault, run.sent), exposed(fault, run.sent, at)) for fault in run.faults]
    total = sum(attempt.reply is Reply.UNKNOWN for one in run.sent for attempt in one.attempts)
    inside = sum(unknown for _, unknown, _ in counts)
    beyond = [
        f"; {fault.name} of {fault.pod}: {unknown} of {flight}"
        for fault, unknown, flight in counts
        if unknown > flight
    ]
    detail = f"{total} attempts, {sum(flight for *_, flight in counts)} were in flight on what was killed"
    held = not beyond and total <= inside
    return Check("outcome unknown, no more than in flight on what was killed", held, detail + "".join(beyond))


def _gap_checks(run: Run) -> list[Check]:
    found = gaps(run.sent, run.faults)
    own = {fault.name: fault.part for fault in run.faults}
    rows = []
    for tier in TIERS:
        longest = max((gap for (of, name), gap in found.items() if of == tier == own.get(name)), default=0.0)
        limit = GAPS.get(tier)
        if limit is None:
            rows.append(Check(f"longest gap {tier}", True, f"{longest:.2f} s, no bound in the design"))
            continue
        verdict = "target" if longest <= limit.target else "floor" if longest <= limit.floor else "below"
        detail = f"{longest:.2f} s, floor {limit.floor:g}, target {limit.target:g}: {verdict}"
        rows.append(Check(f"longest gap {tier}", longest <= limit.floor, detail))
    return rows


def table(run: Run) -> str:
    """Markdown that is readable as it is."""
    ends = Counter(one.end for one in run.sent)
    tries = [attempt for one in run.sent for attempt in one.attempts]
    first = sum(one.attempts[0].reply is Reply.ANSWERED for one in run.sent if one.attempts)
    lines = [
        f"{run.seconds:g} s, {run.per_second:g} requests a second (Poisson), seed {run.seed}",
        "",
        "| requests | |",
        "|---|---|",
        f"| sent | {len(run.sent)} |",
        *(f"| {end.value} | {ends[end]} |" for end in End),
        f"| answered at the first attempt | {first} |",
        f"| attempts refused with a retryable code | {sum(one.reply is Reply.RETRYABLE for one in tries)} |",
        f"| attempts that found no gateway | {sum(one.reply is Reply.NOT_SENT for one in tries)} |",
        f"| codes of attempts | {_codes(one.code for one in tries if one.code)} |",
        "",
        "| demand | held | |",
        "|---|---|---|",
        *(f"| {one.name} | {'yes' if one.held else 'NO'} | {one.detail} |" for one in checks(run)),
        "",
        *_faults(run.faults),
        "",
        *_gaps(run),
    ]
    return "\n".join(lines) + "\n"


def _faults(faults: Sequence[Fault]) -> list[str]:
    counts = Counter(fault.name for fault in faults)
    rows = [f"| {name} | {count} |" for name, count in sorted(counts.items())]
    return ["| fault | times |", "|---|---|", *rows, f"| all | {len(faults)} |"]


def _gaps(run: Run) -> list[str]:
    found = gaps(run.sent, run.faults)
    names = sorted({name for _, name in found})
    head = "| longest wait in s, after | " + " | ".join(TIERS) + " |"
    rows = [
        f"| {name or 'no fault'} | "
        + " | ".join(f"{found.get((tier, name), 0.0):.2f}" for tier in TIERS)
        + " |"
        for name in names
    ]
    return [head, "|---|---|---|---|", *rows]


def _codes(codes: Iterable[str]) -> str:
    counts = Counter(codes)
    return ", ".join(f"{code} {count}" for code, count in counts.most_common()) or "none"


def _failed(run: Run) -> str:
    return _codes(one.attempts[-1].code for one in run.sent if one.end is End.FAILED)


def evidence(run: Run) -> list[str]:
    """What to look at where a demand is not held: every attempt of the requests that show it, and errors that
    were logged."""
    wrong = {*run.ledgers.missing, *run.ledgers.doubled, *run.ledgers.unasked}
    began = run.sent[0].due if run.sent else 0.0
    shown = [
        one
        for one in run.sent
        if (one.number in wrong and one.operation is not Operation.READ)
        or one.end in (End.FAILED, End.LOST)
        or unexplained(one, run.faults)
    ]
    return [*(_story(one, began) for one in shown), *(f"logged: {line}" for line in run.errors)]


def _story(one: Sent, began: float) -> str:
    return f"{one.number} {one.project} {one.operation.value}: " + "; ".join(
        f"{try_.began - began:.2f}-{try_.ended - began:.2f} {try_.code or 'answered'} {try_.detail}"
        for try_ in one.attempts
    )
