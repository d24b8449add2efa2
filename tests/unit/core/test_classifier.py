# SPDX-License-Identifier: Apache-2.0
"""The tier that traffic and criticality ask for, and that constant traffic never makes an instance fly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.api.v1alpha1 import Criticality
from agentpool_core.classifier import Observation, classify, waking_rate
from agentpool_core.config import TieringConfig
from agentpool_core.lifecycle import Tier

HOT, WARM, COLD = Tier.HOT, Tier.WARM, Tier.COLD
POLICY = TieringConfig(hot_requests_per_minute=60, cold_idle_minutes=30, min_stay_seconds=600)

CASES: dict[str, tuple[Tier, dict[str, Any], Tier]] = {
    "WARM with little traffic stays": (WARM, {"rate": 5}, WARM),
    "WARM at the threshold becomes HOT": (WARM, {"rate": 60}, HOT),
    "WARM just below the threshold stays": (WARM, {"rate": 59.9}, WARM),
    "WARM without a request for half an hour becomes COLD": (WARM, {"rate": 0, "idle": 1800}, COLD),
    "WARM idle a second less stays": (WARM, {"rate": 0, "idle": 1799}, WARM),
    "HOT at half the threshold stays": (HOT, {"rate": 30}, HOT),
    "HOT below half the threshold becomes WARM": (HOT, {"rate": 29.9}, WARM),
    "HOT without requests becomes COLD at once": (HOT, {"rate": 0, "idle": 1800}, COLD),
    "COLD with one request a minute becomes WARM": (COLD, {"rate": 1}, WARM),
    "COLD with less stays": (COLD, {"rate": 0.9}, COLD),
    "COLD with much becomes HOT without a step between": (COLD, {"rate": 60}, HOT),
    "nothing moves before its time": (WARM, {"rate": 500, "stayed": 599}, WARM),
    "High is HOT, also without traffic and before its time": (
        COLD,
        {"rate": 0, "idle": 9e9, "stayed": 0, "criticality": Criticality.HIGH},
        HOT,
    ),
    "Low is never HOT": (WARM, {"rate": 500, "criticality": Criticality.LOW}, WARM),
    "Low that is HOT becomes WARM": (HOT, {"rate": 500, "criticality": Criticality.LOW}, WARM),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rules(name: str) -> None:
    present, facts, wanted = CASES[name]
    seen = Observation(
        facts["rate"], facts.get("idle", 0.0), facts.get("stayed", 600.0), facts.get("criticality", "Normal")
    )
    assert classify(seen, POLICY, present).tier is wanted


policies = st.builds(
    TieringConfig,
    hot_requests_per_minute=st.integers(1, 1000),
    cold_idle_minutes=st.integers(1, 600),
    min_stay_seconds=st.floats(1, 3600),
)


@given(policies, st.floats(0, 2000), st.sampled_from(Tier), st.sampled_from(Criticality))
def test_an_instance_that_moved_has_the_tier_that_the_same_traffic_asks_for(
    policy: TieringConfig, rate: float, present: Tier, criticality: Criticality
) -> None:
    idle = 60 / rate if rate else float("inf")
    seen = Observation(rate, idle, policy.min_stay_seconds, criticality)
    moved = classify(seen, policy, present).tier
    assert classify(seen, policy, moved).tier is moved


@given(policies, st.floats(0, 2000), st.sampled_from(Tier))
def test_a_move_says_why(policy: TieringConfig, rate: float, present: Tier) -> None:
    verdict = classify(Observation(rate, 60 / rate if rate else 1e9, 1e9), policy, present)
    assert verdict.reason or verdict.tier is present


@given(policies, st.floats(0.1, 2000))
def test_more_traffic_never_means_a_lower_tier(policy: TieringConfig, rate: float) -> None:
    order = [COLD, WARM, HOT]
    for present in Tier:
        less, more = (
            classify(Observation(one, 60 / one, 1e9), policy, present).tier for one in (rate, rate * 2)
        )
        assert order.index(more) >= order.index(less)


@given(policies)
def test_what_wakes_an_instance_keeps_it_from_going_cold(policy: TieringConfig) -> None:
    assert 60 / waking_rate(policy) < policy.cold_idle_minutes * 60 or waking_rate(policy) == 1.0
