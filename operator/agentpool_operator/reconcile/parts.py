# SPDX-License-Identifier: Apache-2.0
"""What the reconciles share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from agentpool_operator.cache import Cache
from agentpool_operator.desired.pod import PodDefaults
from agentpool_operator.hosts import Fleet
from agentpool_operator.kube.kinds import Cluster, Object
from agentpool_operator.queue import Key, Subject, WorkQueue
from agentpool_operator.reconcile.access import Access
from agentpool_operator.report.events import Recorder


@dataclass(frozen=True, slots=True)
class Parts:
    """Connections and clocks.

    Attributes:
        environ: the variables that stand in for unset fields.
        clock: monotonic seconds; wall: seconds since 1970.
        suffix: random end of a pod's name.
    """

    cluster: Cluster
    cache: Cache
    queue: WorkQueue
    fleet: Fleet
    access: Access
    recorder: Recorder
    defaults: PodDefaults
    environ: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    suffix: Callable[[], str] = lambda: secrets.token_hex(3)
    random: Random = field(default_factory=Random)

    def instance_seen(self, body: Object) -> None:
        """Take note of an AgentInstance as it was read or written. Its event will bring nothing new then, so
        its pool is looked at now."""
        ref = self.cache.instance_put(body)
        if ref is not None:
            self.queue.add(Key(Subject.POOL, ref.namespace, ref.pool))
