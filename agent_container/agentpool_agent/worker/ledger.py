# SPDX-License-Identifier: Apache-2.0
"""What of an instance's state is durable, and what changed since. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Parts = Mapping[str, bytes]


class BadSnapshot(Exception):
    """`snapshot()` returned something that is not named bytes."""


class OverSize(Exception):
    """The state is larger than the pool allows."""


@dataclass(frozen=True, slots=True)
class Change:
    """Parts to write and parts to remove, so that one state becomes another."""

    parts: Parts
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.parts or self.removed)


def checked(snapshot: object, known: Parts, max_bytes: int) -> dict[str, bytes]:
    """The snapshot, checked, with the known object in place of an equal new one, so that it is kept once.

    Parts are compared by identity and then by their bytes, which are held for a rollback anyway: exact, and
    faster than any digest.

    Raises:
        BadSnapshot: not a mapping of str to bytes.
        OverSize: more than `max_bytes`, names included.
    """
    if not isinstance(snapshot, Mapping):
        raise BadSnapshot(f"snapshot() returned {type(snapshot).__name__}, not a mapping of str to bytes")
    parts: dict[str, bytes] = {}
    total = 0
    for name, value in snapshot.items():
        if type(name) is not str or type(value) is not bytes:
            raise BadSnapshot(
                f"snapshot() part {name!r} is {type(value).__name__}; names are str and values bytes"
            )
        before = known.get(name)
        parts[name] = before if before is not None and before == value else value
        total += len(name) + len(value)
    if total > max_bytes:
        raise OverSize(f"state of {total} bytes is over the limit of {max_bytes}")
    return parts


def difference(old: Parts, new: Parts) -> Change:
    """What makes `old` into `new`."""
    changed = {name: value for name, value in new.items() if old.get(name) != value or name not in old}
    return Change(changed, tuple(name for name in old if name not in new))
