# SPDX-License-Identifier: Apache-2.0
"""What the watches have told: which pools, instances and agent pods there are, and who belongs to whom.

A hint about what to look at, never the base of a decision: reconciles read what they act on from the API.
A watch that was cut can have missed a deletion; `replace` mends that at each resync.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentpool_core.cluster import LABEL_ORIGIN, LABEL_POOL_UID, LABEL_TIER
from agentpool_core.names import InstanceKey
from agentpool_operator.kube.kinds import Object


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An AgentInstance, as far as others need to find it."""

    namespace: str
    name: str
    uid: str
    pool: str
    tenant: str
    project: str
    declared: bool
    """A user wrote it; otherwise the operator recorded it."""
    tier: str
    """Of its spec; empty: the pool's default."""
    criticality: str
    """Of its spec; empty: Normal."""
    wanted: str
    """State of its spec; empty: none."""
    last_tier: str
    last_state: str
    last_reason: str
    last_pod: str
    """As last reported in its status; the tier, before any report, as the operator recorded it."""
    generation: int
    created: str
    """creationTimestamp: of two for one instance the older counts."""

    @property
    def instance_id(self) -> str:
        """The id of the instance that it stands for."""
        return InstanceKey(self.namespace, self.pool, self.tenant, self.project).instance_id


def instance_ref(body: Object) -> InstanceRef:
    """The reference of an AgentInstance object."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    return InstanceRef(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        pool=spec.get("pool", ""),
        tenant=spec.get("tenant", ""),
        project=spec.get("project", ""),
        declared=(metadata.get("labels") or {}).get(LABEL_ORIGIN) != "observed",
        tier=spec.get("tier") or "",
        criticality=spec.get("criticality") or "",
        wanted=spec.get("state") or "",
        last_tier=status.get("tier") or (metadata.get("labels") or {}).get(LABEL_TIER, "").upper(),
        last_state=status.get("state") or "",
        last_reason=status.get("reason") or "",
        last_pod=status.get("pod") or "",
        generation=metadata.get("generation") or 0,
        created=metadata.get("creationTimestamp") or "",
    )


class Cache:
    """Pools by name and UID, AgentInstances by name and by the instance they stand for."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str], str] = {}
        self._generations: dict[str, tuple[int, bool]] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._instances: dict[tuple[str, str], InstanceRef] = {}
        self._of: dict[str, set[tuple[str, str]]] = {}
        self._departed: dict[tuple[str, str], InstanceRef] = {}
        self.synced = False
        """Whether everything was listed once."""

    @property
    def pools(self) -> Sequence[tuple[str, str]]:
        """Namespace and name of every pool."""
        return tuple(self._pools)

    @property
    def instances(self) -> Sequence[InstanceRef]:
        """Every AgentInstance."""
        return tuple(self._instances.values())

    def pool_put(self, body: Object) -> bool:
        """A pool is there; whether it is new, or its spec is, or its deletion."""
        metadata = body["metadata"]
        place, uid = (metadata["namespace"], metadata["name"]), metadata["uid"]
        version = (metadata.get("generation") or 0, "deletionTimestamp" in metadata)
        self._pools[place] = uid
        self._names[uid] = place
        changed = self._generations.get(uid) != version
        self._generations[uid] = version
        return changed

    def pool_drop(self, namespace: str, name: str) -> None:
        """A pool is gone."""
        uid = self._pools.pop((namespace, name), "")
        self._names.pop(uid, None)
        self._generations.pop(uid, None)

    def pool_uid(self, namespace: str, name: str) -> str:
        """UID of a pool, empty when there is none."""
        return self._pools.get((namespace, name), "")

    def pool_of(self, body: Object) -> tuple[str, str] | None:
        """The pool that an object belongs to by its label."""
        labels = body["metadata"].get("labels") or {}
        return self._names.get(labels.get(LABEL_POOL_UID, ""))

    def instance_put(self, body: Object) -> InstanceRef | None:
        """An AgentInstance is there; None when nothing about it changed that anybody acts on."""
        ref = instance_ref(body)
        place = (ref.namespace, ref.name)
        before = self._instances.get(place)
        if before is not None and before.uid != ref.uid:
            self.instance_drop(*place)
        self._instances[place] = ref
        self._of.setdefault(ref.instance_id, set()).add(place)
        return ref if ref != before else None

    def instance_drop(self, namespace: str, name: str) -> InstanceRef | None:
        """An AgentInstance is gone; it is kept among the departed until its end is carried out."""
        ref = self._instances.pop((namespace, name), None)
        if ref is None:
            return None
        places = self._of.get(ref.instance_id, set())
        places.discard((namespace, name))
        if not places:
            self._of.pop(ref.instance_id, None)
        if ref.declared and ref.pool:
            self._departed[(namespace, name)] = ref
        return ref

    def instance(self, namespace: str, name: str) -> InstanceRef | None:
        """One AgentInstance."""
        return self._instances.get((namespace, name))

    def departed(self, namespace: str, name: str) -> InstanceRef | None:
        """A declared AgentInstance that was deleted and whose instance may still be there."""
        return self._departed.get((namespace, name))

    def settle(self, namespace: str, name: str) -> None:
        """The end of a departed one is carried out."""
        self._departed.pop((namespace, name), None)

    def standing_for(self, instance_id: str) -> InstanceRef | None:
        """The AgentInstance of an instance: a declared one before a recorded one, then the oldest."""
        refs = [self._instances[place] for place in self._of.get(instance_id, ())]
        return min(refs, key=lambda ref: (not ref.declared, ref.created, ref.uid), default=None)

    def doubles(self, ref: InstanceRef) -> Sequence[InstanceRef]:
        """The other AgentInstances of the same instance."""
        places = self._of.get(ref.instance_id, set()) - {(ref.namespace, ref.name)}
        return [self._instances[place] for place in sorted(places)]

    def of_pool(self, namespace: str, pool: str) -> Iterator[InstanceRef]:
        """Every AgentInstance of a pool, doubles apart."""
        for ref in self._instances.values():
            if (ref.namespace, ref.pool) == (namespace, pool) and self.standing_for(ref.instance_id) == ref:
                yield ref

    def replace(self, pools: Sequence[Object], instances: Sequence[Object]) -> list[InstanceRef]:
        """Take on a full list; returns the AgentInstances whose deletion no watch had told."""
        self._pools.clear()
        self._names.clear()
        self._generations.clear()
        for body in pools:
            self.pool_put(body)
        present = {(body["metadata"]["namespace"], body["metadata"]["name"]) for body in instances}
        missed = [self.instance_drop(*place) for place in list(self._instances) if place not in present]
        for body in instances:
            self.instance_put(body)
        self.synced = True
        return [ref for ref in missed if ref is not None]
