# SPDX-License-Identifier: Apache-2.0
"""New HOT instances that were asked for where no host takes them: the operator makes each a pod."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from agentpool_core.names import InstanceKey

MAX_AWAITED = 64
"""Instances that are remembered; those asked for longest ago are forgotten first."""
AWAITED_SECONDS = 60.0


@dataclass(slots=True)
class Awaiting:
    """What was asked for, and when last; seconds since 1970."""

    _asked: OrderedDict[str, tuple[InstanceKey, float]] = field(default_factory=OrderedDict)

    def note(self, key: InstanceKey, now: float) -> None:
        """A request asked for it."""
        self._asked[key.instance_id] = (key, now)
        self._asked.move_to_end(key.instance_id)
        if len(self._asked) > MAX_AWAITED:
            self._asked.popitem(last=False)

    def lately(self, now: float) -> list[tuple[InstanceKey, float]]:
        """What was asked for lately."""
        return [(key, at) for key, at in self._asked.values() if now - at < AWAITED_SECONDS]
