# SPDX-License-Identifier: Apache-2.0
"""Which tier an instance should have (A15): a pure function of its traffic and of what depends on it.

The first rule that fits decides:

| rule | tier |
|---|---|
| criticality High | HOT |
| less than minStaySeconds in the present tier | the present one |
| HOT, criticality not Low, at least half of hotRequestsPerMinute | HOT |
| criticality not Low, at least hotRequestsPerMinute | HOT |
| no request for coldIdleMinutes | COLD |
| HOT | WARM |
| COLD, requests at least twice in coldIdleMinutes and once a minute | WARM |
| anything else | the present one |

Each way up asks for at least twice what the way down does, so that constant traffic moves an instance once.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentpool_core.api.v1alpha1 import Criticality
from agentpool_core.config import TieringConfig
from agentpool_core.lifecycle import Tier

RATE_WINDOW_SECONDS = 300.0
"""Requests are counted over this time."""
STAY_SHARE = 0.5
"""An instance stays HOT down to this share of the rate that made it HOT."""
WAKES = 2.0
"""Requests within the idle limit that bring an instance back from COLD."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one instance.

    Attributes:
        requests_per_minute: over the last RATE_WINDOW_SECONDS.
        idle_seconds: since its last request ended; 0 while one is under way.
        stayed_seconds: in the present tier.
    """

    requests_per_minute: float
    idle_seconds: float
    stayed_seconds: float
    criticality: Criticality = Criticality.NORMAL


@dataclass(frozen=True, slots=True)
class Verdict:
    """The tier, and the words for an Event."""

    tier: Tier
    reason: str = ""


def waking_rate(policy: TieringConfig) -> float:
    """Requests per minute that bring an instance back from COLD."""
    return max(1.0, WAKES / policy.cold_idle_minutes)


def classify(seen: Observation, policy: TieringConfig, present: Tier) -> Verdict:
    """The tier that the instance should have; total, and the same again once it has it."""
    rate, hot = seen.requests_per_minute, float(policy.hot_requests_per_minute)
    if seen.criticality is Criticality.HIGH:
        return Verdict(Tier.HOT, "criticality High")
    if seen.stayed_seconds < policy.min_stay_seconds:
        return Verdict(present)
    if seen.criticality is not Criticality.LOW:
        if present is Tier.HOT and rate >= hot * STAY_SHARE:
            return Verdict(Tier.HOT)
        if rate >= hot:
            return Verdict(Tier.HOT, f"{rate:.1f} requests a minute, HOT from {hot:g} on")
    if seen.idle_seconds >= policy.cold_idle_minutes * 60:
        return Verdict(Tier.COLD, f"no request for {seen.idle_seconds / 60:.0f} minutes")
    if present is Tier.HOT:
        return Verdict(Tier.WARM, f"{rate:.1f} requests a minute, HOT down to {hot * STAY_SHARE:g}")
    if present is Tier.COLD and rate >= waking_rate(policy):
        return Verdict(Tier.WARM, f"{rate:.1f} requests a minute, WARM from {waking_rate(policy):g} on")
    return Verdict(present)
