# SPDX-License-Identifier: Apache-2.0
"""How many shared pods: each signal's part, bounds, cooldown, stabilisation, and that nothing flaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.config import ForecastConfig
from agentpool_core.scaling import Decision, Direction, Policy, ReplicaLoad, State, Verdict, decide
from agentpool_core.scaling.policy import SETTLE_SECONDS

NOW = 1_000_000.0
LOOK = 5.0
PLAIN = Policy(enabled=True, forecast=ForecastConfig(enabled=False))
FORECAST = Policy(enabled=True)


def load(cpu: float | None = 0.5, **shares: Any) -> ReplicaLoad:
    """A pod whose other signals are low."""
    facts: dict[str, Any] = {"memory": 0.1, "queue": 0.0, "occupancy": 0.1}
    return ReplicaLoad(cpu=cpu, **(facts | shares))


def start(desired: int = 4, **facts: Any) -> State:
    """More pods were wanted for long enough; fewer were not."""
    return replace(State.start(desired, NOW), **({"short_since": NOW - SETTLE_SECONDS} | facts))


def rested(desired: int = 4) -> State:
    """Everything that a decrease waits for is long ago."""
    return State.start(desired, NOW - 10_000)


LOOKS: dict[str, tuple[State, Sequence[ReplicaLoad | None], Verdict, int]] = {
    "between the thresholds: as it is": (start(), [load(0.5)] * 4, Verdict.STEADY, 4),
    "at the upper threshold: as it is": (start(), [load(0.8)] * 4, Verdict.STEADY, 4),
    "above it, and only since now: as it is": (
        start(short_since=None),
        [load(1.0)] * 4,
        Verdict.STABILIZING,
        4,
    ),
    "above it: as many as bring it to the middle": (start(), [load(1.0)] * 4, Verdict.UP, 8),
    "one pod above and the mean below: as it is": (
        start(),
        [load(1.0), *[load(0.5)] * 3],
        Verdict.STEADY,
        4,
    ),
    "memory": (start(), [load(memory=0.9)] * 4, Verdict.UP, 7),
    "waiting requests": (start(), [load(queue=2.0)] * 4, Verdict.UP, 15),
    "places": (start(), [load(occupancy=0.95)] * 4, Verdict.UP, 7),
    "the signal that asks for most decides": (
        start(),
        [load(0.9, occupancy=1.0, memory=0.1)] * 4,
        Verdict.UP,
        8,
    ),
    "latency asks for at most twice as many": (
        start(),
        [load(latency=30.0, completions=5.0)] * 4,
        Verdict.UP,
        8,
    ),
    "latency counts by requests": (
        start(),
        [load(latency=9.0, completions=0.1), *[load(latency=0.2, completions=9.0)] * 3],
        Verdict.STEADY,
        4,
    ),
    "a line of requests asks for at most four times as many": (
        start(),
        [load(queue=50.0)] * 4,
        Verdict.UP,
        16,
    ),
    "no more than there may be": (start(10), [load(1.0, queue=9.0)] * 10, Verdict.UP, 20),
    "at the most already": (start(20), [load(1.0)] * 20, Verdict.AT_MAXIMUM, 20),
    "pods that start are counted on": (start(8), [load(1.0)] * 4, Verdict.STEADY, 8),
    "nobody tells: as it is": (start(), [None] * 4, Verdict.MISSING, 4),
    "no pod is ready: as it is": (start(), [], Verdict.MISSING, 4),
    "low, and not for long": (start(), [load(0.1)] * 4, Verdict.STABILIZING, 4),
    "low for long": (rested(), [load(0.1)] * 4, Verdict.DOWN, 2),
    "low for long, and one signal is not": (rested(), [load(0.1, memory=0.5)] * 4, Verdict.STEADY, 4),
    "one action keeps half": (rested(16), [load(0.01)] * 16, Verdict.DOWN, 8),
    "never below the fewest": (rested(3), [load(0.0)] * 3, Verdict.DOWN, 2),
    "low, and one pod does not tell": (rested(), [*[load(0.1)] * 3, None], Verdict.MISSING, 4),
    "low, and one signal is not known": (rested(), [load(None)] * 4, Verdict.MISSING, 4),
    "high, and one pod does not tell": (start(), [*[load(1.0)] * 3, None], Verdict.UP, 6),
    "low latency is no spare room": (
        rested(),
        [load(0.5, latency=0.01, completions=9.0)] * 4,
        Verdict.STEADY,
        4,
    ),
    "latency in between does not hold pods": (
        rested(),
        [load(0.1, latency=0.5, completions=9.0)] * 4,
        Verdict.DOWN,
        2,
    ),
    "more than there may be by now": (
        start(25, acted_at=NOW - 1, direction=Direction.UP),
        [load(0.5)] * 25,
        Verdict.DOWN,
        20,
    ),
    "fewer than there have to be by now": (start(1), [load(0.5)], Verdict.UP, 2),
    "high again soon after an increase": (
        start(acted_at=NOW - 299, direction=Direction.UP),
        [load(1.0)] * 4,
        Verdict.COOLDOWN,
        4,
    ),
    "high once the cooldown is over": (
        start(acted_at=NOW - 300, direction=Direction.UP),
        [load(1.0)] * 4,
        Verdict.UP,
        8,
    ),
    "high soon after a decrease": (
        start(acted_at=NOW - 1, direction=Direction.DOWN),
        [load(1.0)] * 4,
        Verdict.UP,
        8,
    ),
    "low for long, soon after an increase": (
        replace(rested(), acted_at=NOW - 1, direction=Direction.UP),
        [load(0.1)] * 4,
        Verdict.COOLDOWN,
        4,
    ),
    "low for long, soon after a decrease": (
        replace(rested(), acted_at=NOW - 1, direction=Direction.DOWN),
        [load(0.1)] * 4,
        Verdict.COOLDOWN,
        4,
    ),
}


@pytest.mark.parametrize("name", LOOKS)
def test_one_look(name: str) -> None:
    state, replicas, verdict, desired = LOOKS[name]
    decision = decide(state, replicas, PLAIN, NOW)
    assert (decision.verdict, decision.state.desired) == (verdict, desired)
    acted = verdict in (Verdict.UP, Verdict.DOWN)
    assert (decision.action is not None) is acted
    assert (decision.state.acted_at == NOW) is acted


def test_an_action_says_why_with_its_numbers() -> None:
    action = decide(start(), [load(0.951)] * 4, PLAIN, NOW).action
    assert action is not None
    assert (action.direction, action.before, action.after, action.reason) == (Direction.UP, 4, 7, "CpuHigh")
    assert action.loads == {"Cpu": 0.951, "Memory": 0.1, "Queue": 0.0, "Occupancy": 0.1}
    assert action.message.startswith("From 4 to 7 pods, Cpu above 80%. Loads: Cpu 95%, Memory 10%")


def looked(state: State, replicas: Sequence[ReplicaLoad | None], policy: Policy, seconds: float) -> Decision:
    """After looks for so long, each at the same load; the last one."""
    now = NOW
    decision = decide(state, replicas, policy, now)
    while now < NOW + seconds:
        now += LOOK
        decision = decide(decision.state, replicas, policy, now)
    return decision


def test_arrivals_ask_for_what_a_limit_hides() -> None:
    calm = [load(0.2, arrivals=1.5, completions=1.5)] * 2
    known = looked(start(2), calm, FORECAST, 60).state
    assert known.cost == pytest.approx(0.4 / 3)
    # Ten times as many arrive; the CPU is at its limit and can show no more than that.
    full = [load(1.0, arrivals=15.0, completions=7.5)] * 2
    known = replace(known, short_since=NOW)
    step = decide(known, full, FORECAST, NOW + 65)
    assert step.action is not None
    assert (step.action.reason, step.state.desired) == ("ArrivalsHigh", 8)
    assert "30.0 requests/s arrive" in step.action.message
    assert decide(known, full, PLAIN, NOW + 65).state.desired == 4


def test_idle_processes_do_not_pass_for_requests() -> None:
    idle = [load(0.05, arrivals=0.1, completions=0.1)] * 2
    assert looked(start(2), idle, FORECAST, 60).state.cost is None


shares = st.floats(0, 3)
replica = st.builds(
    ReplicaLoad,
    cpu=st.none() | shares,
    memory=st.none() | shares,
    queue=st.none() | shares,
    occupancy=st.none() | st.floats(0, 1),
    latency=st.none() | shares,
    arrivals=st.floats(0, 100),
    completions=st.floats(0, 100),
)
policies = st.builds(
    lambda least, more, down, gap, cooldown, stable, forecast: Policy(
        enabled=True,
        min_replicas=least,
        max_replicas=least + more,
        scale_down_threshold=down,
        scale_up_threshold=down + gap,
        cooldown_seconds=cooldown,
        stabilization_seconds=stable,
        forecast=ForecastConfig(enabled=forecast),
    ),
    *(st.integers(1, 5), st.integers(0, 20), st.floats(0.05, 0.5), st.floats(0.05, 0.5)),
    *(st.floats(0, 400), st.floats(0, 400), st.booleans()),
)


looks_at = st.tuples(st.floats(1, 120), st.lists(st.none() | replica, max_size=6))


@given(policies, st.lists(looks_at, max_size=30))
def test_bounds_and_cooldown_always_hold(
    policy: Policy, looks: list[tuple[float, list[ReplicaLoad | None]]]
) -> None:
    state, now, last = State.start(policy.min_replicas, NOW), NOW, None
    for pause, replicas in looks:
        now += pause
        before = state.desired
        decision = decide(state, replicas, policy, now)
        state = decision.state
        assert policy.min_replicas <= state.desired <= policy.max_replicas
        assert len(state.window) <= policy.max_replicas + 1
        if decision.action is None:
            assert state.desired == before
            continue
        if last is not None and not (last[1] is Direction.DOWN and decision.action.direction is Direction.UP):
            assert now - last[0] >= policy.cooldown_seconds
        if decision.action.direction is Direction.DOWN:
            assert replicas
            assert all(one is not None and one.complete for one in replicas)
        last = now, decision.action.direction


@given(policies, st.floats(0, 30), st.floats(0, 5), st.integers(1, 25))
def test_a_constant_load_leads_to_one_number(policy: Policy, cpu: float, places: float, first: int) -> None:
    policy = policy.model_copy(update={"cooldown_seconds": 20.0, "stabilization_seconds": 20.0})
    state, now, directions = State.start(first, NOW), NOW, []
    for _ in range(200):
        now += LOOK
        pods = state.desired
        one = load(cpu / pods, occupancy=places / pods, arrivals=cpu / pods, completions=cpu / pods)
        decision = decide(state, [one] * pods, policy, now)
        state = decision.state
        if decision.action is not None and decision.action.reason != "Bounds":
            directions.append(decision.action.direction)
    # It goes one way, in a few steps, and stays.
    assert len(set(directions)) <= 1
    assert state.acted_at is None or state.acted_at < now - 500


@given(policies, st.lists(replica, min_size=1, max_size=6), st.floats(0, 2), st.integers(1, 25))
def test_more_load_never_asks_for_fewer(
    policy: Policy, replicas: list[ReplicaLoad], more: float, desired: int
) -> None:
    heavier = [replace(one, cpu=None if one.cpu is None else one.cpu + more) for one in replicas]
    state = rested(desired)
    less, greater = (decide(state, one, policy, NOW).wanted for one in (replicas, heavier))
    assert less <= greater
