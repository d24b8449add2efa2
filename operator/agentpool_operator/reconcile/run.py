# SPDX-License-Identifier: Apache-2.0
"""What one look at a pool works with, and what it leaves to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from agentpool_core.api import AgentPool
from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import Tier
from agentpool_operator.desired.naming import Owner
from agentpool_operator.desired.pod import Template, generic_tiers
from agentpool_operator.kube.kinds import Object
from agentpool_operator.plan.demand import Demand
from agentpool_operator.plan.expected import Expected
from agentpool_operator.plan.views import PodView
from agentpool_operator.reconcile.pods import Effects
from agentpool_operator.report.budget import Budget

STATUS_BURST, STATUS_PER_SECOND = 3, 0.2


@dataclass(slots=True)
class Memory:
    """What one run leaves to the next; an operator that starts without it does nothing wrong.

    Attributes:
        lost: since when instances are missed that should have a pod, by id, monotonic.
        asserted, asserted_at: what the quiet objects were last seen to be, and when.
        store: what is wrong with the store's settings.
        taken: UIDs of pods that waited and got an instance; None: not looked yet.
        unwritten_since: since when counts differ from those in the status, monotonic.
        written_at: when the status was written last, monotonic.
    """

    uid: str = ""
    lost: dict[str, float] = field(default_factory=dict)
    asserted_at: float = float("-inf")
    asserted: tuple[Any, ...] = ()
    store: tuple[str, ...] = ()
    budget: Budget = field(default_factory=lambda: Budget(STATUS_BURST, STATUS_PER_SECOND))
    expected: Expected = field(default_factory=Expected)
    demand: Demand = field(default_factory=Demand)
    taken: frozenset[str] | None = None
    unwritten_since: float | None = None
    written_at: float = -math.inf


@dataclass(slots=True)
class Run:
    """One run over one pool."""

    body: Object
    owner: Owner
    pool: AgentPool
    effective: EffectivePool
    memory: Memory
    pods: list[PodView] = field(default_factory=list)
    deployment: Object | None = None
    effects: Effects = field(default_factory=Effects)
    templates: dict[str, Template] = field(default_factory=dict)
    store_generation: str = ""
    scaled: int | None = None
    """The number of shared pods that automatic scaling chose; None: the configuration has it."""
    blocked: bool = False
    """Pods could not start: what they mount is not there."""

    @property
    def place(self) -> tuple[str, str]:
        """Namespace and name of the pool."""
        return self.owner.namespace, self.owner.name

    @property
    def status(self) -> Object:
        """As it was when the run began."""
        return self.body.get("status") or {}

    @property
    def replicas(self) -> int:
        """Wanted shared pods; a tier that takes nobody has none."""
        if self.effective.tier(Tier.WARM).max_instances == 0:
            return 0
        return self.effective.warm_replicas if self.scaled is None else self.scaled

    @property
    def waiting(self) -> tuple[int, int]:
        """The fewest and the most waiting pods that may be wanted."""
        warmup, limits = self.effective.warmup, self.effective.limits
        if not warmup.enabled or not generic_tiers(self.pool, self.effective):
            return 0, 0
        most = max(warmup.count, warmup.max_count or 0)
        return min(warmup.count, limits.max_instances), min(most, limits.max_instances)
