# SPDX-License-Identifier: Apache-2.0
"""From a manifest to what runs here: pure decisions of `agentpool dev`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from agentpool_core.api.manifest import load_manifests
from agentpool_core.api.v1alpha1 import AgentPool
from agentpool_core.config import CheckpointConfig, EffectivePool, Storage, resolve
from agentpool_core.errors import InvalidRequest

UID_SPACE = uuid.UUID("6f4f7ad8-5a2f-4d57-9f0c-0a8f6e2f3b61")
"""Drawn once. With it a pool's uid follows from its name, so that state in Redis is found again."""


@dataclass(frozen=True, slots=True)
class LocalPool:
    """What `dev` runs, and what differs from a cluster."""

    config: EffectivePool
    notes: tuple[str, ...]


def local_pool(text: str, environ: Mapping[str, str], generation: int, *, redis: bool) -> LocalPool:
    """The pool of a manifest as it runs on this machine.

    Raises ManifestError for a bad manifest and InvalidRequest when it has no pool or several.
    """
    resources = load_manifests(text)
    pools = [one for one in resources if isinstance(one, AgentPool)]
    if len(pools) != 1:
        raise InvalidRequest(
            f"The manifest has {len(pools)} AgentPools; dev runs exactly one.",
            remedy="Keep one AgentPool in the file.",
        )
    pool = pools[0]
    uid = str(uuid.uuid5(UID_SPACE, f"{pool.metadata.namespace}/{pool.metadata.name}"))
    config = resolve(pool, environ, uid, generation)
    notes = _notes(config, declared=len(resources) - len(pools), redis=redis)
    storage = Storage.REDIS if redis else Storage.MEMORY
    if config.checkpoint.storage is not storage:
        config = config.model_copy(update={"checkpoint": _stored_in(config.checkpoint, storage)})
    return LocalPool(config, notes)


def _stored_in(checkpoint: CheckpointConfig, storage: Storage) -> CheckpointConfig:
    return checkpoint.model_copy(update={"storage": storage})


def _notes(config: EffectivePool, *, declared: int, redis: bool) -> tuple[str, ...]:
    notes = ["Tiers are labels here: HOT and COLD instances share a host, as WARM ones do."]
    if not redis and config.checkpoint.storage is Storage.REDIS:
        notes.append("State is kept in memory and ends with this program. Give --redis URL to keep it.")
    if redis and config.checkpoint.storage is Storage.MEMORY:
        notes.append("The manifest says storage Memory; --redis overrides it.")
    if declared:
        notes.append(f"{declared} AgentInstance object(s) left aside: declared instances need a cluster.")
    return tuple(notes)


def same_settings(one: EffectivePool, other: EffectivePool) -> bool:
    """Whether two configurations differ in nothing but their generation."""
    return one.model_copy(update={"generation": other.generation}) == other


def same_pool(one: EffectivePool, other: EffectivePool) -> bool:
    """Whether a running host can go from one configuration to the other: the same pool and agent."""
    return one.uid == other.uid and one.agent.entrypoint == other.agent.entrypoint
