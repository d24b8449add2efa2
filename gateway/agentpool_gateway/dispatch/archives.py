# SPDX-License-Identifier: Apache-2.0
"""Export and import of instances: archives on their way between callers and hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio

from agentpool_core.errors import InstanceExists, OutcomeUnknown, Unavailable
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.membership.table import PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_proto.v1.host_pb2 import ArchiveChunk, ImportRequest, ImportTarget, InstanceRequest
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.cancellation import caller_cancelled
from agentpool_rpc.status import from_rpc_error

SECONDS = 60.0
"""Packing, sending and storing the largest state takes a few seconds."""
CHUNK_BYTES = 256 * 1024

T = TypeVar("T")
Call = Callable[[HostLink, str, float], Awaitable[T]]


class ArchiveCalls:
    """Archives of one pool's instances."""

    def __init__(self, fleet: Fleet, table: PoolTable) -> None:
        self._fleet = fleet
        self._table = table

    async def export(self, instance_id: str) -> AsyncGenerator[bytes, None]:
        """The archive in parts. What is refused is refused before the first; a host that breaks off after it
        ends the archive with an error, and without its end."""
        request = InstanceRequest(instance_id=instance_id)

        async def call(link: HostLink, token: str, left: float) -> tuple[Any, bytes]:
            stream = link.stub.Export(request, metadata=(("authorization", token),), timeout=left)
            return stream, _data(await stream.read())

        stream, first = await self._travel(instance_id, call)
        try:
            yield first
            while part := _data(await stream.read()):
                yield part
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as exc:
            if caller_cancelled():
                raise
            failure = from_rpc_error(exc) if isinstance(exc, grpc.aio.AioRpcError) else None
            raise failure or Unavailable("The host broke off.", retry_after_seconds=1.0) from exc
        finally:
            stream.cancel()

    async def plant(self, instance_id: str, target: ImportTarget, archive: bytes) -> Instance:
        """An instance with the state of the archive."""
        tries = 0

        async def call(link: HostLink, token: str, left: float) -> Instance:
            nonlocal tries
            tries += 1
            answer: Instance = await link.stub.Import(
                _messages(target, archive), metadata=(("authorization", token),), timeout=left
            )
            return answer

        try:
            instance = await self._travel(instance_id, call)
        except InstanceExists as exc:
            if tries == 1:
                raise
            raise OutcomeUnknown(
                "The connection to a host broke during the import, and the instance exists now.",
                remedy="Look at the instance; it may be the one of this import. Or import with replacement.",
            ) from exc
        return instance

    async def _travel(self, instance_id: str, call: Call[T]) -> T:
        deadline = asyncio.get_running_loop().time() + SECONDS
        journey = Journey(self._fleet, self._table, instance_id, deadline, repeatable=True, anywhere=True)
        try:
            while True:
                link, token = await journey.next_host()
                try:
                    return await call(link, token, max(journey.seconds_left, 0.001))
                except (grpc.aio.AioRpcError, asyncio.CancelledError) as exc:
                    if caller_cancelled():
                        raise
                    error = exc if isinstance(exc, grpc.aio.AioRpcError) else None
                    await journey.failed(link, error, accepted=False)
        finally:
            journey.settled()


def _data(message: object) -> bytes:
    # The end of a stream is a value of its own, no message.
    return message.data if isinstance(message, ArchiveChunk) else b""


async def _messages(target: ImportTarget, archive: bytes) -> AsyncIterator[ImportRequest]:
    yield ImportRequest(target=target)
    for at in range(0, len(archive), CHUNK_BYTES):
        yield ImportRequest(data=archive[at : at + CHUNK_BYTES])
