# SPDX-License-Identifier: Apache-2.0
"""Leader election by one `coordination.k8s.io` Lease.

Who leads is decided by watching whether the record changes on one's own monotonic clock, never by comparing
clocks of two machines. A leader may write until `HOLD_SECONDS` after the *start* of its last successful
renewal; a request ends within `client.REQUEST_SECONDS`; both together are below `LEASE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from agentpool_operator.kube.kinds import LEASES, Conflict, Kind, KubeError, NotLeader, Object

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15.0
HOLD_SECONDS = 10.0
RETRY_SECONDS = 2.0


class LeaseClient(Protocol):
    """What the election needs of the API."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Make it; Conflict when it exists."""

    async def replace(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Replace it; Conflict when it changed meanwhile."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; shortened by tests of failure only."""

    lease: float = LEASE_SECONDS
    hold: float = HOLD_SECONDS
    retry: float = RETRY_SECONDS


class Elector:
    """One candidate.

    Args:
        identity: unique in the cluster, for example pod name and a nonce.
        clock: monotonic seconds.
        wall: seconds since 1970, only shown to people.
    """

    def __init__(
        self,
        client: LeaseClient,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._namespace, self._name, self._identity = namespace, name, identity
        self._timing = timing
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._seen = ""
        self._seen_at = 0.0
        self._deadline = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether a write may begin now."""
        return self._clock() < self._deadline

    def check(self) -> None:
        """Raise NotLeader unless a write may begin now."""
        if not self.leading:
            raise NotLeader("the lease is not held, or its renewal is overdue")

    async def acquire(self) -> None:
        """Wait until this candidate leads."""
        while not await self._try():
            await self._sleep(self._timing.retry)
        log.info("lease_acquired", identity=self._identity)

    async def hold(self) -> None:
        """Renew; returns when the lease is lost."""
        while True:
            await self._sleep(self._timing.retry)
            if not await self._try() and not self.leading:
                log.warning("lease_lost", identity=self._identity)
                return

    async def release(self) -> None:
        """Give the lease up, so that the next candidate need not wait. No write may follow."""
        if self._deadline == float("-inf"):
            return
        self._deadline = float("-inf")
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                lease["spec"]["leaseDurationSeconds"] = 1
                await self._client.replace(LEASES, self._namespace, lease)
        except KubeError as exc:
            log.warning("lease_not_released", reason=str(exc))

    async def _try(self) -> bool:
        started = self._clock()
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
            if lease is None:
                body = {"metadata": {"name": self._name}, "spec": self._spec(0, {})}
                await self._client.create(LEASES, self._namespace, body)
            else:
                if not self._free(lease):
                    return False
                lease["spec"] = self._spec(self._transitions(lease), lease.get("spec") or {})
                await self._client.replace(LEASES, self._namespace, lease)
        except Conflict:
            return False
        except KubeError as exc:
            log.warning("lease_call_failed", reason=str(exc))
            return False
        self._deadline = started + self._timing.hold
        return True

    def _free(self, lease: Object) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        self._deadline = float("-inf")
        seen = str(lease["metadata"].get("resourceVersion"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        # The other one's own word, so that candidates of different settings never overlap.
        lasts = max(float(spec.get("leaseDurationSeconds") or 0), self._timing.lease)
        return self._clock() - self._seen_at > lasts

    def _transitions(self, lease: Object) -> int:
        spec = lease.get("spec") or {}
        moved = spec.get("holderIdentity") != self._identity
        return int(spec.get("leaseTransitions") or 0) + (1 if moved else 0)

    def _spec(self, transitions: int, before: Object) -> Object:
        mine = before.get("holderIdentity") == self._identity
        now = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease)),
            "leaseTransitions": transitions,
            "acquireTime": before.get("acquireTime", now) if mine else now,
            "renewTime": now,
        }
