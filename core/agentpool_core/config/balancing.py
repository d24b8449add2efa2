# SPDX-License-Identifier: Apache-2.0
"""The effective configuration of balancing; the defaults are the product's (B8)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from agentpool_core.api.v1alpha1 import Affinity, BalancingStrategy


class WantedCapability(BaseModel):
    """A capability that hosts are chosen for, and its part in the choice."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    weight: int = 1


class BalancingConfig(BaseModel):
    """Which shared host gets an instance that nobody holds; see `agentpool_core.balance`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    strategy: BalancingStrategy = BalancingStrategy.LEAST_CONNECTIONS
    affinity: Affinity = Affinity.PREFERRED
    capabilities: tuple[WantedCapability, ...] = ()
    """What WeightedCapabilities looks for; the other strategies do not."""
