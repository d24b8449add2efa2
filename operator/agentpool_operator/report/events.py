# SPDX-License-Identifier: Apache-2.0
"""Events: told once, and never so many that the API server notices."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from agentpool_operator.kube.kinds import EVENTS, Cluster, Kind, KubeError, Object
from agentpool_operator.report.budget import Budget

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 900.0
"""The same words about the same object are told again after this."""
REMEMBERED = 4096
BURST = 30
PER_SECOND = 1.0
NOTE_CHARS = 1000


class Recorder:
    """Writes Events.

    Args:
        instance: name of this process, for people.
        clock: monotonic seconds; wall: seconds since 1970.
    """

    def __init__(
        self,
        cluster: Cluster,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._cluster = cluster
        self._instance = instance[:128]
        self._clock, self._wall, self._random = clock, wall, random
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._budget = Budget(BURST, PER_SECOND)

    async def tell(
        self,
        kind: Kind,
        body: Object,
        reason: str,
        note: str,
        action: str = "Reconcile",
        warning: bool = False,
    ) -> None:
        """Tell about an object, unless that was told lately, or too much was. An Event that cannot be written
        is only logged: it is news, not state."""
        metadata = body["metadata"]
        told = (metadata["uid"], reason, note)
        now = self._clock()
        if now - self._told.get(told, float("-inf")) < SILENCE_SECONDS or self._budget.take(now) > 0:
            return
        self._told[told] = now
        self._told.move_to_end(told)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        try:
            await self._cluster.create(
                EVENTS, metadata["namespace"], self._event(kind, metadata, reason, note, action, warning)
            )
        except KubeError as exc:
            log.info("event_not_written", reason=str(exc))

    def _event(self, kind: Kind, metadata: Any, reason: str, note: str, action: str, warning: bool) -> Object:
        now = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "metadata": {
                "name": f"{metadata['name'][:200]}.{self._random()}",
                "namespace": metadata["namespace"],
            },
            "eventTime": now,
            "reportingController": "agentpool.dev/operator",
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "note": note[:NOTE_CHARS],
            "type": "Warning" if warning else "Normal",
        }
