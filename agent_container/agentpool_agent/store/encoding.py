# SPDX-License-Identifier: Apache-2.0
"""How values lie in Redis: records as hashes of text, parts sealed (see `sealing`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey

from .base import IDEMPOTENCY_KEPT, IDEMPOTENCY_SECONDS, MICROSECONDS, Checkpoint, Record, Write
from .refusals import no_earlier_state
from .sealing import seal, unseal

_PART = b"part:"
_NONE = b"none:"


def checkpoint(fields: Mapping[bytes, bytes]) -> Checkpoint:
    """The checkpoint that lies in a hash; raises StateCorrupt when a part is damaged."""
    names = {field: field.removeprefix(_PART).decode() for field in fields if field.startswith(_PART)}
    parts = {name: unseal(name, fields[field]) for field, name in names.items()}
    return Checkpoint(parts, fields.get(b"rate", b""))


def previous(fields: Mapping[bytes, bytes], kept: Mapping[bytes, bytes], epoch: int) -> Checkpoint:
    """The state before the last write that changed it: what lies in the hash, with what that write replaced.

    Raises:
        StateCorrupt: a part of it is damaged, or it is not known, or it was empty.
    """
    before = dict(fields)
    if kept.get(b"epoch") == str(epoch).encode():
        for field, body in kept.items():
            if field.startswith(_PART):
                before[field] = body
            elif field.startswith(_NONE):
                before.pop(_PART + field.removeprefix(_NONE), None)
        found = checkpoint(before)
        if found.parts:
            return found
    raise no_earlier_state()


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
        failures=fields.get(b"failures", b""),
        pinned=field("pinned") == "1",
    )


def text(value: Any) -> str:
    """A reply of a script as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
