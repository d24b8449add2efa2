# SPDX-License-Identifier: Apache-2.0
"""How values lie in Redis: records as hashes of text, parts with their digest in front."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from agentpool_core.errors import AgentCreationFailed
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey

from .base import IDEMPOTENCY_KEPT, IDEMPOTENCY_SECONDS, Checkpoint, Record, Write

MICROSECONDS = 1_000_000

_DIGEST_BYTES = hashlib.sha256().digest_size
_PART = b"part:"


def seal(body: bytes) -> bytes:
    """The part with its SHA-256 in front."""
    return hashlib.sha256(body).digest() + body


def unseal(name: str, sealed: bytes) -> bytes:
    """The part without its digest; raises AgentCreationFailed when they do not match."""
    body = sealed[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != sealed[:_DIGEST_BYTES]:
        raise AgentCreationFailed(
            f"The stored part {name!r} of the agent's state is damaged: its SHA-256 does not match.",
            remedy="Restore the store from a backup, or terminate the instance to start anew.",
        )
    return body


def checkpoint(fields: Mapping[bytes, bytes]) -> Checkpoint:
    """The checkpoint that lies in a hash; raises AgentCreationFailed when a part is damaged."""
    names = {field: field.removeprefix(_PART).decode() for field in fields if field.startswith(_PART)}
    parts = {name: unseal(name, fields[field]) for field, name in names.items()}
    return Checkpoint(parts, fields.get(b"rate", b""))


def write_arguments(write: Write) -> list[str | bytes | int]:
    """The arguments that `lua/write.lua` reads."""
    arguments: list[str | bytes | int] = [write.rate, IDEMPOTENCY_KEPT, IDEMPOTENCY_SECONDS * MICROSECONDS]
    arguments.append(len(write.parts))
    for name, body in write.parts.items():
        arguments += (name, seal(body))
    arguments += (len(write.removed), *sorted(write.removed))
    arguments.append(len(write.finals))
    for key, final in write.finals.items():
        arguments += (key, final)
    return arguments


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """The hash that a script answered as a flat list."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def record(namespace: str, pool: str, fields: Mapping[bytes, bytes]) -> Record:
    """The record that lies in a hash."""

    def field(name: str, otherwise: str = "") -> str:
        return fields.get(name.encode(), otherwise.encode()).decode()

    owner, paused, wish = field("owner"), field("paused"), field("wish")
    return Record(
        key=InstanceKey(namespace, pool, field("tenant"), field("project")),
        tier=Tier(field("tier")),
        owner=Incarnation.parse(owner) if owner else None,
        epoch=int(field("epoch")),
        origin=Origin(field("origin")),
        declared_uid=field("declared_uid"),
        paused=PauseReason(paused) if paused else None,
        wish=Wish(wish) if wish else None,
        updated_at=int(field("updated", "0")) / MICROSECONDS,
    )


def text(value: Any) -> str:
    """A reply of a script as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
