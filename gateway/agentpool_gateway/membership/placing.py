# SPDX-License-Identifier: Apache-2.0
"""Where instances are being started by requests of this gateway: whoever comes meanwhile goes there too.

A strategy need not name the same host twice, and an instance must not be claimed by two.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Place = TypeVar("Place")


class Placing(Generic[Place]):
    """Instances that are being started; as many as there are requests that wait for it."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Place, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def at(self, instance_id: str) -> Place | None:
        """Where it is being started; None: nowhere."""
        found = self._places.get(instance_id)
        return found[0] if found is not None else None

    def begin(self, instance_id: str, place: Place) -> None:
        """A request is about to start it there; `end` follows."""
        before = self._places.get(instance_id)
        joined = before[1] if before is not None and before[0] is place else 0
        self._places[instance_id] = (place, joined + 1)

    def end(self, instance_id: str, place: Place) -> None:
        """A request that was about to is accepted there, or has failed."""
        at, joined = self._places.get(instance_id, (None, 0))
        if at is not place:
            return
        if joined > 1:
            self._places[instance_id] = (place, joined - 1)
        else:
            del self._places[instance_id]
