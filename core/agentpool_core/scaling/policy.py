# SPDX-License-Identifier: Apache-2.0
"""The decision: how many shared pods, and why (A39, A40).

    wanted = max over the signals of ceil(sum over the pods of load / target), target = (up + down) / 2
A signal whose mean lies between the thresholds wants what there is; above, it never wants fewer, below, never
more. With the target in the middle the load lies between the thresholds after an action, and as the sums do
not change with the number of pods, a constant load has one answer: nothing flaps. Two signals differ. Latency
says nothing about spare room and does not grow with the sum: it can only ask for more, at most twice as many
at once. Arrivals are CPU that is needed, not used: measured CPU stops at the limit, so that it hides how much
more would be taken; requests per second times CPU per request, which stays right at the limit (U = X S,
Denning and Buzen 1978, "The operational analysis of queueing network models"), do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agentpool_core.config.scaling import ScalingConfig
from agentpool_core.scaling.forecast import Arrivals
from agentpool_core.scaling.loads import ReplicaLoad, Signal, Weight, pods_for, weights

MOST_FACTORS = {Signal.LATENCY: 2, Signal.QUEUE: 4, Signal.ARRIVALS: 10}
"""One action makes at most so many times as many pods. Latency and a line of waiting requests say that there
are too few and little about how many; what arrives is measured. Others stop at their limit by themselves."""
MOST_FACTOR = 4
LEAST_FACTOR = 0.5
"""One action keeps at least half of them."""
SETTLE_SECONDS = 10.0
"""More are wanted for so long before they are made: rates are means of ten seconds, a step shows in them as
half at first, and a number that was too small stands until the cooldown is over."""
LEAST_COMPLETIONS = 1.0
"""Per second, of all pods: with fewer the CPU of idle processes passes for that of requests."""
COST_WEIGHT = 0.3
"""Of the newest measurement in what a request needs."""

Policy = ScalingConfig


class Direction(StrEnum):
    """Of an action."""

    UP = "Up"
    DOWN = "Down"


class Verdict(StrEnum):
    """What came of a look."""

    UP = "up"
    DOWN = "down"
    STEADY = "steady"
    """The present number is right."""
    COOLDOWN = "cooldown"
    """Another number is wanted, and the last action is not long enough ago."""
    STABILIZING = "stabilizing"
    """Another number is wanted, and not for long enough yet."""
    AT_MAXIMUM = "at_maximum"
    """More are wanted than there may be."""
    MISSING = "signals_missing"
    """Fewer may do, and not every pod tells."""


@dataclass(frozen=True, slots=True)
class Action:
    """A change of the number, with the numbers that led to it.

    Attributes:
        reason: one CamelCase word.
        loads: each signal's mean over the pods, rounded.
    """

    direction: Direction
    before: int
    after: int
    reason: str
    message: str
    loads: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class State:
    """What one look leaves to the next; times are seconds of one clock.

    Attributes:
        desired: pods that are wanted.
        acted_at, direction: of the last action; None: there was none.
        window: numbers that were found right and when, as far as they still bound a decrease: each is smaller
            than the one before.
        short_since: since when more pods are wanted without a break; None: they are not.
        arrivals: what is known of arrivals.
        cost: CPU of one request, in seconds of one pod's whole CPU; None: not known.
    """

    desired: int
    acted_at: float | None = None
    direction: Direction | None = None
    window: tuple[tuple[float, int], ...] = ()
    short_since: float | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)
    cost: float | None = None

    @classmethod
    def start(
        cls, desired: int, now: float, acted_at: float | None = None, direction: Direction | None = None
    ) -> State:
        """At the beginning: what there is was right a moment ago."""
        return cls(desired, acted_at, direction, ((now, desired),))


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a look.

    Attributes:
        wanted: pods that the signals ask for, within the bounds.
        loads: mean of each known signal.
    """

    state: State
    verdict: Verdict
    wanted: int
    loads: Mapping[Signal, float]
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the signals ask for: the number, the signal that decided, and whether everything was known."""

    number: int
    signal: Signal | None
    known: bool
    loads: Mapping[Signal, Weight]


def decide(state: State, replicas: Sequence[ReplicaLoad | None], policy: Policy, now: float) -> Decision:
    """One look.

    Args:
        replicas: the pods that are ready; None for one whose load is not known.
    """
    loads = [one for one in replicas if one is not None]
    state = _measured(state, loads, now)
    wish = _wish(state, replicas, policy)
    means = {signal: weight.share for signal, weight in wish.loads.items()}
    bounded = _clamp(wish.number, policy)
    state = _remembered(state, bounded, policy, now)
    if bounded <= state.desired:
        state = replace(state, short_since=None)
    elif state.short_since is None:
        state = replace(state, short_since=now)
    present = _clamp(state.desired, policy)
    if present != state.desired:
        # Nobody waits for the end of a cooldown to have his own bounds kept.
        return _acted(state, present, "Bounds", wish, policy, now)
    if bounded > present:
        if _cools(state, Direction.UP, policy, now):
            return Decision(state, Verdict.COOLDOWN, bounded, means)
        if state.short_since is None or now - state.short_since < SETTLE_SECONDS:
            return Decision(state, Verdict.STABILIZING, bounded, means)
        return _acted(state, bounded, f"{wish.signal}High", wish, policy, now)
    lowest = max(number for _, number in state.window)
    if lowest < present:
        if _cools(state, Direction.DOWN, policy, now):
            return Decision(state, Verdict.COOLDOWN, bounded, means)
        return _acted(state, lowest, "LoadLow", wish, policy, now)
    return Decision(state, _standing(wish, bounded, present), bounded, means)


def _standing(wish: _Wish, bounded: int, present: int) -> Verdict:
    if wish.number > bounded:
        return Verdict.AT_MAXIMUM
    if bounded < present:
        return Verdict.STABILIZING
    return Verdict.STEADY if wish.known else Verdict.MISSING


def _measured(state: State, loads: Sequence[ReplicaLoad], now: float) -> State:
    if not loads:
        return state
    arrivals = state.arrivals.after(sum(one.arrivals for one in loads), now)
    completions = sum(one.completions for one in loads)
    cpu = [one.cpu for one in loads if one.cpu is not None]
    cost = state.cost
    if completions >= LEAST_COMPLETIONS and len(cpu) == len(loads):
        seen = sum(cpu) / completions
        cost = seen if cost is None else COST_WEIGHT * seen + (1 - COST_WEIGHT) * cost
    return replace(state, arrivals=arrivals, cost=cost)


def _wish(state: State, replicas: Sequence[ReplicaLoad | None], policy: Policy) -> _Wish:
    loads = [one for one in replicas if one is not None]
    found = weights(loads)
    present = state.desired
    if policy.forecast.enabled and state.cost is not None and loads:
        total = state.arrivals.ahead(policy.forecast.horizon_seconds) * state.cost
        found[Signal.ARRIVALS] = Weight(total, total / len(loads))
    asked = {
        signal: number
        for signal, weight in found.items()
        if (number := _asks(signal, weight, present, len(loads), policy)) is not None
    }
    known = bool(loads) and len(loads) == len(replicas) and all(one.complete for one in loads)
    number = max(asked.values(), default=present)
    # In a tie the signal that lies highest is the reason.
    signal = max(
        (one for one in asked if asked[one] == number), key=lambda one: found[one].share, default=None
    )
    if not known:
        number = max(number, present)
    return _Wish(max(number, math.ceil(LEAST_FACTOR * present)), signal, known, found)


def _asks(signal: Signal, weight: Weight, present: int, pods: int, policy: Policy) -> int | None:
    """How many pods one signal asks for; None: it does not say."""
    target = (policy.scale_up_threshold + policy.scale_down_threshold) / 2
    number = min(pods_for(weight.total, target), MOST_FACTORS.get(signal, MOST_FACTOR) * pods)
    if weight.share > policy.scale_up_threshold:
        return max(present, number)
    if signal is Signal.LATENCY:
        return None
    return min(present, number) if weight.share < policy.scale_down_threshold else present


def _clamp(number: int, policy: Policy) -> int:
    return max(policy.min_replicas, min(number, policy.max_replicas))


def _remembered(state: State, number: int, policy: Policy, now: float) -> State:
    """The window with one more number: of numbers that are not larger than a later one nothing is kept, so
    that it holds at most as many as there are different ones."""
    kept = [one for one in state.window if now - one[0] < policy.stabilization_seconds and one[1] > number]
    return replace(state, window=(*kept, (now, number)))


def _cools(state: State, direction: Direction, policy: Policy, now: float) -> bool:
    """Whether an action is too soon after the last one. An increase does not wait for the cooldown of a
    decrease: that protects from flapping, which the decrease that may follow waits for as well, and five
    minutes of overload would be the price of a pod that was given up a moment too early."""
    if state.acted_at is None or (direction is Direction.UP and state.direction is Direction.DOWN):
        return False
    return now - state.acted_at < policy.cooldown_seconds


def _acted(state: State, number: int, reason: str, wish: _Wish, policy: Policy, now: float) -> Decision:
    direction = Direction.UP if number > state.desired else Direction.DOWN
    means = {signal: weight.share for signal, weight in wish.loads.items()}
    action = Action(
        direction,
        state.desired,
        number,
        reason,
        _words(state, number, reason, wish, policy),
        {signal.value: round(share, 3) for signal, share in means.items()},
    )
    acted = replace(state, desired=number, acted_at=now, direction=direction, short_since=None)
    verdict = Verdict.UP if direction is Direction.UP else Verdict.DOWN
    return Decision(acted, verdict, number, means, action)


def _words(state: State, number: int, reason: str, wish: _Wish, policy: Policy) -> str:
    shares = ", ".join(f"{signal} {weight.share:.0%}" for signal, weight in wish.loads.items()) or "none"
    if reason == "Bounds":
        why = f"between minReplicas {policy.min_replicas} and maxReplicas {policy.max_replicas}"
    elif reason == "LoadLow":
        why = f"below {policy.scale_down_threshold:.0%} for {policy.stabilization_seconds:g} s"
    else:
        why = f"{wish.signal} above {policy.scale_up_threshold:.0%}"
    text = f"From {state.desired} to {number} pods, {why}. Loads: {shares}."
    if Signal.ARRIVALS in wish.loads:
        ahead = state.arrivals.ahead(policy.forecast.horizon_seconds)
        text += f" {state.arrivals.rate:.1f} requests/s arrive, {ahead:.1f} are expected"
        text += f" within {policy.forecast.horizon_seconds:g} s."
    return text
