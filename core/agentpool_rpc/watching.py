# SPDX-License-Identifier: Apache-2.0
"""Following what one host reports of itself: one Watch call after the other, while the host is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import grpc.aio

from agentpool_core.names import Incarnation
from agentpool_proto.v1 import host_pb2
from agentpool_rpc.cancellation import heed_cancellation
from agentpool_rpc.tokens import TokenSigner, Verb

SNAPSHOT_SECONDS = 10.0
"""A host that accepts a watch answers with its snapshot at once; later means that it hangs."""
STEADY_SECONDS = 1.0
"""A watch that lasted for so long was no part of a crash loop: the next one is tried at once."""
_WATCH = frozenset({Verb.WATCH})


class BrokenWatch(Exception):
    """The host's stream does not follow the protocol."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between watches, doubling from the first to the last, seconds."""

    first_seconds: float
    last_seconds: float


class Follower(Protocol):
    """Who wants to know of a host."""

    def told(self, event: host_pb2.WatchEvent) -> None:
        """The next event: a snapshot of a host of the right pod, or a delta after it.

        ValueError when it cannot be taken on, which ends the watch.
        """

    async def lost(self, reason: str, told: bool) -> None:
        """The watch ended; `told`: after its snapshot had come."""


async def follow_host(
    stub: Any, pod_uid: str, signer: TokenSigner, follower: Follower, backoff: Backoff, random: Random
) -> None:
    """Watch the host until cancelled.

    Args:
        stub: of AgentHost.
        pod_uid: of the pod that the host must be in.
        random: spreads the watches of many hosts.
    """
    clock = asyncio.get_running_loop().time
    delay = backoff.first_seconds
    while True:
        watch = _Watch(pod_uid, follower)
        began = clock()
        reason = await watch.run(stub, signer)
        # A call that breaks at the moment of the cancellation may report its own failure instead.
        heed_cancellation()
        if watch.told and clock() - began > STEADY_SECONDS:
            delay = backoff.first_seconds
        await follower.lost(reason, watch.told)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, backoff.last_seconds)


class _Watch:
    """One Watch call."""

    def __init__(self, pod_uid: str, follower: Follower) -> None:
        self._pod_uid = pod_uid
        self._follower = follower
        self._expected = 1

    @property
    def told(self) -> bool:
        """Whether the snapshot was taken on."""
        return self._expected > 1

    async def run(self, stub: Any, signer: TokenSigner) -> str:
        """Read to the end; why it ended."""
        token = signer.authorization(self._pod_uid, _WATCH)
        call = stub.Watch(host_pb2.WatchRequest(), metadata=(("authorization", token),))
        try:
            async with asyncio.timeout(SNAPSHOT_SECONDS):
                event = await call.read()
            while isinstance(event, host_pb2.WatchEvent):
                self._take(event)
                # Endless by design: keepalive ends the call when the host's machine falls silent.
                event = await call.read()
        except grpc.aio.AioRpcError as exc:
            return exc.code().name
        except (BrokenWatch, TimeoutError, ValueError) as exc:
            return str(exc) or type(exc).__name__
        finally:
            call.cancel()
        return "ended by the host"

    def _take(self, event: host_pb2.WatchEvent) -> None:
        kind = event.WhichOneof("event")
        if event.sequence != self._expected or (self._expected == 1) != (kind == "snapshot"):
            raise BrokenWatch(f"event {event.sequence} ({kind}) where {self._expected} was due")
        if kind == "snapshot":
            incarnation = Incarnation.parse(event.snapshot.host.incarnation)
            if incarnation.pod_uid != self._pod_uid:
                raise BrokenWatch(f"the host is of pod {incarnation.pod_uid}")
        self._follower.told(event)
        self._expected += 1
