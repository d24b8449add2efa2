# SPDX-License-Identifier: Apache-2.0
"""`AgentPool`: which agent runs, in which tiers, under which quotas.

No field has a default here. What is not set is taken from the environment or from the table in
`agentpool_core.config`, so that a set field and an unset one can be told apart.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator

from agentpool_core.api.problems import BadValue
from agentpool_core.api.quantity import Cpu, Memory
from agentpool_core.api.v1alpha1.balancing import BalancingSpec
from agentpool_core.api.v1alpha1.choices import Durability, Network, PullPolicy, Storage, TieringMode
from agentpool_core.api.v1alpha1.fields import Number, Positive, Seconds, Switch
from agentpool_core.api.v1alpha1.flags import FeatureFlags
from agentpool_core.api.v1alpha1.forms import Name
from agentpool_core.api.v1alpha1.limits import CircuitBreakerSpec, LimitsSpec
from agentpool_core.api.v1alpha1.meta import Part, Resource
from agentpool_core.api.v1alpha1.scaling import ScalingSpec
from agentpool_core.api.v1alpha1.status import AgentPoolStatus
from agentpool_core.lifecycle import Tier

_ENTRYPOINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def _entrypoint(text: str) -> str:
    if _ENTRYPOINT.fullmatch(text) is None:
        raise BadValue(
            f"found {text[:80]!r}, which names no class",
            remedy="Write package.module:Class, for example agentpool_agent.agents.librarian:Librarian.",
        )
    return text


_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,510}")


def _image(text: str) -> str:
    if text and _IMAGE.fullmatch(text) is None:
        raise BadValue(
            f"found {text[:80]!r}, which names no container image",
            remedy="Write registry/repository:tag or @sha256:digest, or leave it empty for the default.",
        )
    return text


class AgentSpec(Part):
    """Which agent runs."""

    entrypoint: Annotated[str, AfterValidator(_entrypoint)] = Field(
        description="The agent's class as package.module:Class."
    )
    image: Annotated[str, AfterValidator(_image)] | None = Field(
        default=None, description="Image of the agent pods; unset or empty: the operator's default image."
    )
    image_pull_policy: PullPolicy | None = Field(
        default=None, description="Always, IfNotPresent or Never; unset: the operator's default."
    )
    image_pull_secrets: tuple[Name, ...] | None = Field(
        default=None, description="Secrets of the pool's namespace that the image is fetched with."
    )
    config: dict[str, Any] | None = Field(default=None, description="Handed to the agent as it is.")


class QuotaSpec(Part):
    """What one instance may use."""

    memory: Memory | None = Field(default=None, description="Memory of one instance, a quantity.")
    cpu: Cpu | None = Field(default=None, description="CPU of one instance, a quantity.")
    concurrent_requests: Positive | None = Field(
        default=None, description="Requests of one instance at the same time; more answer 429."
    )
    requests_per_minute: Positive | None = Field(
        default=None, description="Requests of one instance per minute; more answer 429."
    )


class AmountsSpec(Part):
    """Amounts of CPU and memory."""

    cpu: Cpu | None = Field(default=None, description="CPU, a quantity.")
    memory: Memory | None = Field(default=None, description="Memory, a quantity.")


class ResourcesSpec(Part):
    """What the container of the workers asks for; what is unset follows from the quota."""

    requests: AmountsSpec | None = Field(default=None, description="What the scheduler reserves.")
    limits: AmountsSpec | None = Field(default=None, description="What the kernel holds it to.")


class HotSpec(Part):
    """HOT: a pod of its own, always on."""

    max_instances: Number | None = Field(default=None, description="Cap on HOT instances.")
    quota: QuotaSpec | None = Field(default=None, description="Quota of one HOT instance.")
    resources: ResourcesSpec | None = Field(
        default=None, description="Resources of the workers in a pod that is made for one HOT instance."
    )
    runtime_class_name: Name | None = Field(
        default=None, description="RuntimeClass of a pod that is made for one HOT instance."
    )


class WarmSpec(Part):
    """WARM: a process of its own on a shared host."""

    replicas: Number | None = Field(
        default=None, description="Shared pods; unset: 2, or 1 with storage Memory."
    )
    max_instances: Number | None = Field(default=None, description="Cap on WARM instances.")
    instances_per_replica: Positive | None = Field(
        default=None,
        description="Instances on one shared host before the least recently used idle one is evicted.",
    )
    idle_seconds: Number | None = Field(
        default=None, description="Seconds without a request before it is evicted; 0: right after use."
    )
    quota: QuotaSpec | None = Field(default=None, description="Quota of one WARM instance.")
    resources: ResourcesSpec | None = Field(
        default=None, description="Resources of the workers in a shared pod."
    )
    runtime_class_name: Name | None = Field(default=None, description="RuntimeClass of a shared pod.")


class ColdSpec(Part):
    """COLD: on demand, given back when idle."""

    max_instances: Number | None = Field(default=None, description="Cap on COLD instances.")
    idle_seconds: Number | None = Field(
        default=None, description="Seconds without a request before it is given back; 0: right after use."
    )
    quota: QuotaSpec | None = Field(default=None, description="Quota of one COLD instance.")
    resources: ResourcesSpec | None = Field(
        default=None, description="Resources of the workers in a waiting pod."
    )
    runtime_class_name: Name | None = Field(default=None, description="RuntimeClass of a waiting pod.")


class TiersSpec(Part):
    """The three tiers; one that is left out has its defaults."""

    hot: HotSpec | None = Field(default=None, description="The HOT tier.")
    warm: WarmSpec | None = Field(default=None, description="The WARM tier.")
    cold: ColdSpec | None = Field(default=None, description="The COLD tier.")


class WarmupSpec(Part):
    """Processes started ahead, waiting for a first request."""

    enabled: Switch | None = Field(default=None, description="Whether any are started ahead.")
    count: Number | None = Field(default=None, description="How many wait.")
    max_count: Number | None = Field(
        default=None,
        description="How many may wait while first requests come faster than pods start; unset: count.",
    )


class CheckpointSpec(Part):
    """How state is kept."""

    storage: Storage | None = Field(default=None, description="Redis or Memory.")
    durability: Durability | None = Field(
        default=None,
        description="Response: a change is durable before its answer leaves. Interval: saved by timer.",
    )
    interval_seconds: Seconds | None = Field(
        default=None, description="Time between two saves under Interval; what can be lost."
    )
    retention_seconds: Positive | None = Field(
        default=None,
        description="State of an undeclared instance that was not used for so long is removed; unset: never.",
    )


class HealthSpec(Part):
    """How hosts look after their workers."""

    interval_seconds: Seconds | None = Field(
        default=None, description="Time between two checks of an idle worker."
    )
    timeout_seconds: Seconds | None = Field(
        default=None, description="A worker that does not answer for so long counts as hung."
    )


class RecoverySpec(Part):
    """What happens to an instance that fails."""

    enabled: Switch | None = Field(
        default=None, description="False: a failed instance stays in ERROR until it is resumed."
    )
    max_failures_per_hour: Positive | None = Field(
        default=None, description="With more failures in an hour an instance is left alone and reported."
    )
    pattern_window_minutes: Positive | None = Field(
        default=None, description="How far back failures of one cause count together."
    )


class TieringSpec(Part):
    """How the tier of an instance follows its traffic."""

    mode: TieringMode | None = Field(
        default=None, description="Manual, or Automatic: traffic and criticality choose what nobody chose."
    )
    hot_requests_per_minute: Positive | None = Field(
        default=None,
        description="With so many requests per minute an instance becomes HOT; it stays so down to half.",
    )
    cold_idle_minutes: Positive | None = Field(
        default=None, description="After so long without a request an instance becomes COLD."
    )
    min_stay_seconds: Seconds | None = Field(
        default=None, description="Shortest time in one tier before the next move."
    )


class IsolationSpec(Part):
    """What keeps workers apart."""

    required: tuple[str, ...] | None = Field(
        default=None, description="Names of guards without which no instance starts."
    )
    network: Network | None = Field(
        default=None, description="None: a worker opens no connection. Outbound: it may."
    )
    subprocesses: Switch | None = Field(default=None, description="Whether an agent may start programs.")


class AgentPoolSpec(Part):
    """What is wanted of a pool."""

    agent: AgentSpec = Field(description="Which agent runs.")
    default_tier: Tier | None = Field(default=None, description="Tier of a new instance that names none.")
    tiers: TiersSpec | None = Field(default=None, description="Settings by tier.")
    warmup: WarmupSpec | None = Field(default=None, description="Processes started ahead.")
    limits: LimitsSpec | None = Field(default=None, description="Bounds of the pool and of requests.")
    checkpoint: CheckpointSpec | None = Field(default=None, description="How state is kept.")
    health: HealthSpec | None = Field(default=None, description="How hosts look after their workers.")
    recovery: RecoverySpec | None = Field(default=None, description="What happens to a failing instance.")
    circuit_breaker: CircuitBreakerSpec | None = Field(
        default=None, description="When requests of a failing instance are refused at once."
    )
    tiering: TieringSpec | None = Field(default=None, description="How tiers follow traffic.")
    balancing: BalancingSpec | None = Field(default=None, description="Which shared host gets what.")
    scaling: ScalingSpec | None = Field(default=None, description="How many shared pods there are.")
    isolation: IsolationSpec | None = Field(default=None, description="What keeps workers apart.")
    feature_flags: FeatureFlags | None = Field(
        default=None, description="Feature flags; they rule over those that are set through the gateway."
    )

    @model_validator(mode="after")
    def _bounds_agree(self) -> AgentPoolSpec:
        limits = self.limits or LimitsSpec()
        total = limits.max_instances
        if total is None:
            return self
        if limits.min_instances is not None and limits.min_instances > total:
            raise BadValue(
                f"found {limits.min_instances}, more than limits.maxInstances {total}",
                remedy=f"Set it to {total} or less, or raise spec.limits.maxInstances.",
                path=("limits", "minInstances"),
            )
        tiers = self.tiers or TiersSpec()
        for name, tier in (("hot", tiers.hot), ("warm", tiers.warm), ("cold", tiers.cold)):
            if tier is not None and tier.max_instances is not None and tier.max_instances > total:
                raise BadValue(
                    f"found {tier.max_instances}, more than limits.maxInstances {total}",
                    remedy=f"Set it to {total} or less, or raise spec.limits.maxInstances.",
                    path=("tiers", name, "maxInstances"),
                )
        return self

    @model_validator(mode="after")
    def _standby_bounds_agree(self) -> AgentPoolSpec:
        warmup = self.warmup or WarmupSpec()
        if warmup.max_count is not None and warmup.count is not None and warmup.max_count < warmup.count:
            raise BadValue(
                f"found {warmup.max_count}, less than warmup.count {warmup.count}",
                remedy=f"Set it to {warmup.count} or more, or lower spec.warmup.count.",
                path=("warmup", "maxCount"),
            )
        return self

    @model_validator(mode="after")
    def _one_chooses_the_replicas(self) -> AgentPoolSpec:
        warm, checkpoint = (self.tiers or TiersSpec()).warm, self.checkpoint or CheckpointSpec()
        if self.scaling is not None:
            self.scaling.check_pool(checkpoint.storage is Storage.MEMORY, warm.replicas if warm else None)
        return self

    @model_validator(mode="after")
    def _state_is_where_it_is_needed(self) -> AgentPoolSpec:
        if self.checkpoint is None or self.checkpoint.storage is not Storage.MEMORY:
            return self
        if self.default_tier is Tier.HOT:
            raise BadValue(
                "found HOT, whose state must outlive a pod, with checkpoint.storage Memory",
                remedy="Set spec.checkpoint.storage to Redis, or choose WARM or COLD.",
                path=("defaultTier",),
            )
        replicas = self.tiers.warm.replicas if self.tiers and self.tiers.warm else None
        if replicas is not None and replicas > 1:
            raise BadValue(
                f"found {replicas} pods, which share no state, with checkpoint.storage Memory",
                remedy="Set spec.checkpoint.storage to Redis, or replicas to 1.",
                path=("tiers", "warm", "replicas"),
            )
        if self.tiering is not None and self.tiering.mode is TieringMode.AUTOMATIC:
            raise BadValue(
                "found Automatic, which moves instances between pods, with checkpoint.storage Memory",
                remedy="Set spec.checkpoint.storage to Redis, or mode to Manual.",
                path=("tiering", "mode"),
            )
        return self


class AgentPool(Resource):
    """A pool of agents."""

    KIND: ClassVar[str] = "AgentPool"
    STATUS: ClassVar[type[Part]] = AgentPoolStatus

    spec: AgentPoolSpec
