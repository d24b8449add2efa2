# SPDX-License-Identifier: Apache-2.0
"""What a worker is given once, at its start; when the pool says something else, it needs a new one."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from agentpool_core.config import Durability, EffectivePool, Network
from agentpool_core.lifecycle import Tier


@dataclass(frozen=True, slots=True)
class Terms:
    """The part of a pool's configuration that one instance's worker was started with.

    Attributes:
        config: the agent's own, as JSON.
        durable: changes are saved before their answers leave.
        required: guards without which it does not start.
    """

    config: bytes
    memory_bytes: int
    cpu_millis: int
    state_bytes: int
    answer_bytes: int
    network: bool
    subprocesses: bool
    durable: bool
    required: tuple[str, ...]


def terms(config: EffectivePool, tier: Tier) -> Terms:
    """The terms of an instance of a tier."""
    quota, limits = config.tiers[tier].quota, config.limits
    return Terms(
        config=msgspec.json.encode(config.agent.config, order="sorted"),
        memory_bytes=quota.memory_bytes,
        cpu_millis=quota.cpu_millis,
        state_bytes=limits.state_bytes,
        answer_bytes=limits.answer_bytes,
        network=config.isolation.network is Network.OUTBOUND,
        subprocesses=config.isolation.subprocesses,
        durable=config.checkpoint.durability is Durability.RESPONSE,
        required=config.isolation.required,
    )
