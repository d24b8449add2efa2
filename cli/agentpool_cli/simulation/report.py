# SPDX-License-Identifier: Apache-2.0
"""What runs over a trace came to, in columns side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from agentpool_cli.simulation.model import LOOK_SECONDS, Look, percentile
from agentpool_cli.simulation.trace import Trace
from agentpool_core.scaling import Action

ROWS = 40
"""A table of about so many, however long the trace is."""
CALM_LOOKS = 12
"""Latency is back under its target once it stays there for a minute."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stretch of a run; times in seconds."""

    begins: float
    per_second: float
    pods: int
    used: float
    wait_p50: float
    wait_p99: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        back_after: seconds from the step until latency is back under its target; 0: it never left, None: it
            never came back.
        slow: share of the requests that took longer than the target.
        pod_seconds: what was paid for.
    """

    back_after: float | None
    slow: float
    wait_p99: float
    most: int
    pod_seconds: float
    actions: Sequence[tuple[float, Action]]


def rows(looks: Sequence[Look], seconds: float) -> list[Row]:
    """The run in stretches of so many seconds."""
    found, size = [], max(1, round(seconds / LOOK_SECONDS))
    for part in (looks[at : at + size] for at in range(0, len(looks), size)):
        waits = sorted(chain.from_iterable(look.waits for look in part))
        found.append(
            Row(
                part[0].at - LOOK_SECONDS,
                sum(look.arrived for look in part) / (len(part) * LOOK_SECONDS),
                part[-1].serving,
                sum(look.used for look in part) / len(part),
                percentile(waits, 0.5),
                percentile(waits, 0.99),
            )
        )
    return found


def outcome(trace: Trace, looks: Sequence[Look], target: float) -> Outcome:
    """What a run came to; `target` in seconds."""
    times = sorted(chain.from_iterable(look.times for look in looks))
    slow = sum(1 for time in times if time > target)
    return Outcome(
        back_after=back_after(looks, trace.step[0], target),
        slow=slow / len(times) if times else 0.0,
        wait_p99=percentile(sorted(chain.from_iterable(look.waits for look in looks)), 0.99),
        most=max(look.serving for look in looks),
        pod_seconds=sum(look.wanted * LOOK_SECONDS for look in looks),
        actions=[(look.at, look.action) for look in looks if look.action is not None],
    )


def back_after(looks: Sequence[Look], step: float, target: float) -> float | None:
    """Seconds from the step until the 99th percentile of five seconds is under the target and stays there for
    a minute; 0 when it never left it within five minutes, None when it never came back."""
    later = [look for look in looks if look.at > step]
    over = [percentile(sorted(look.times), 0.99) > target for look in later]
    if not any(over[: round(300 / LOOK_SECONDS)]):
        return 0.0
    first = over.index(True)
    for number in range(first, len(over)):
        calm = over[number : number + CALM_LOOKS]
        if len(calm) == CALM_LOOKS and not any(calm):
            return later[number].at - LOOK_SECONDS - step
    return None


def tables(
    trace: Trace, runs: Mapping[str, Sequence[Look]], outcomes: Mapping[str, Outcome], target: float
) -> str:
    """The text of the command."""
    step, before, after = trace.step
    text = [
        "Waits are from arrival to begin, in milliseconds. Pods: those that serve at the end of a line.",
        "",
        _over_time(trace, runs),
        *(_decided(name, outcomes[name]) for name in runs),
        f"Target: 99 of 100 requests end within {target * 1000:g} ms.",
        f"Largest step: at {step:g} s from {before:g} to {after:g} requests/s.",
        "",
        _summary(outcomes),
    ]
    return "\n".join(text)


def _over_time(trace: Trace, runs: Mapping[str, Sequence[Look]]) -> str:
    seconds = max(LOOK_SECONDS, LOOK_SECONDS * round(trace.ends / ROWS / LOOK_SECONDS))
    head = ["   time", "requests/s"]
    for name in runs:
        head += [f"| {name}: pods", "used", "wait p50", "wait p99"]
    lines = ["  ".join(head)]
    columns = [rows(looks, seconds) for looks in runs.values()]
    for line in zip_longest(*columns):
        cells = [f"{line[0].begins:6.0f}s", f"{line[0].per_second:10.1f}"]
        for name, row in zip(runs, line, strict=True):
            cells += [
                f"| {row.pods:{len(name) + 6}d}",
                f"{row.used:4.0%}",
                f"{row.wait_p50 * 1000:8.0f}",
                f"{row.wait_p99 * 1000:8.0f}",
            ]
        lines.append("  ".join(cells))
    return "\n".join(lines) + "\n"


def _decided(name: str, found: Outcome) -> str:
    lines = [f"Decisions, {name}:"]
    lines += [f"{at:6.0f}s  {action.reason}: {action.message}" for at, action in found.actions]
    return "\n".join(lines if found.actions else [*lines, "  none"]) + "\n"


def _summary(outcomes: Mapping[str, Outcome]) -> str:
    width = max(len(name) for name in outcomes)
    lines = [
        f"{'':{width}}  under target again  requests over target  wait p99  most pods  cost, pod seconds"
    ]
    for name, found in outcomes.items():
        again = "never" if found.back_after is None else f"{found.back_after:.0f} s"
        lines.append(
            f"{name:{width}}  {again:>18}  {found.slow:20.1%}  {found.wait_p99 * 1000:5.0f} ms"
            f"  {found.most:9d}  {found.pod_seconds:17.0f}"
        )
    return "\n".join(lines) + "\n"
