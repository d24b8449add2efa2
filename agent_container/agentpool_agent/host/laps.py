# SPDX-License-Identifier: Apache-2.0
"""How long the steps of an activation took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """The steps of an activation, in their order."""

    CLAIM = "claim"
    """A place was made, and ownership won."""
    TURN = "turn"
    """Other activations of the host let it begin."""
    LOAD = "load"
    """Its state was read from the store."""
    WORKER = "worker"
    """A process was there: at once where one waited."""
    SETUP = "setup"
    """The agent was constructed and its setup() done, in a process with its guards on."""
    RESTORE = "restore"
    """The agent took its state back and was READY."""


@dataclass(slots=True)
class Laps:
    """When which step ended; times of the host's monotonic clock."""

    began: float
    ends: dict[Stage, float] = field(default_factory=dict)

    def mark(self, stage: Stage, now: float) -> None:
        """A step ended; only its first end counts, because the worker's word is not trusted."""
        self.ends.setdefault(stage, now)

    @property
    def ended(self) -> float:
        """The end of the last step, or the beginning when there is none yet."""
        return max(self.ends.values(), default=self.began)

    def __iter__(self) -> Iterator[tuple[Stage, float, float]]:
        """Each step that ended, with its beginning and its end."""
        before = self.began
        for stage in Stage:
            end = self.ends.get(stage)
            if end is not None:
                yield stage, before, max(before, end)
                before = max(before, end)
