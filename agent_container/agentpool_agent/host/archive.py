# SPDX-License-Identifier: Apache-2.0
"""Export and import: the saved state of an instance as an archive, and an instance from an archive.

The format is `agentpool_core.archive`. Any host of the pool can do it for an instance that nobody holds; one
that is held is exported by its holder, and is not imported over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import structlog

from agentpool_agent.host.invoke import check_identity, tier_of
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT, Entry
from agentpool_agent.host.views import record_view
from agentpool_agent.store import Checkpoint, Claim, Record
from agentpool_core.archive import Source, archive_bytes, pack, unpack
from agentpool_core.config import Durability
from agentpool_core.errors import InstanceExists, InvalidRequest, NotOwner, PayloadTooLarge
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_proto.v1 import host_pb2
from agentpool_proto.v1.types_pb2 import Instance

log = structlog.get_logger(__name__)

PARALLEL = 2
"""Archives worked on at one time; each takes up to three times limits.stateBytes of memory."""
CHUNK_BYTES = 256 * 1024


class Archives:
    """Makes and takes archives."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._turns = asyncio.Semaphore(PARALLEL)

    async def export(self, instance_id: str, ended: frozenset[Incarnation]) -> bytes:
        """The last saved state, and with durability Interval the present one; raises InstanceNotFound,
        NotOwner, StateCorrupt, StoreUnavailable."""
        host = self._host
        config, store = host.configured()
        async with self._turns:
            await self._saved(instance_id)
            record, checkpoint = await store.read(instance_id)
            elsewhere = record.owner is not None and record.owner not in {host.incarnation, *ended}
            if elsewhere and config.checkpoint.durability is Durability.INTERVAL:
                # Only its holder can save what it has answered since the last interval.
                raise NotOwner(str(record.owner))
            key = record.key
            source = Source(
                config.namespace,
                config.name,
                key.tenant_id,
                key.project_id,
                record.tier,
                config.agent.entrypoint,
            )
            created = datetime.fromtimestamp(host.wall(), UTC)
            return await asyncio.to_thread(pack, source, created, checkpoint.parts)

    async def plant(
        self, messages: AsyncIterator[host_pb2.ImportRequest], ended: frozenset[Incarnation]
    ) -> Instance:
        """An instance with the state of an archive, held by nobody.

        Raises:
            InvalidRequest: the target or the archive is wrong; PayloadTooLarge for one that is too large.
            InstanceExists: the instance exists and is not to be replaced, or a host holds it.
            NotOwner: another host holds it.
        """
        config, store = self._host.admit()
        limit = config.limits.state_bytes
        async with self._turns:
            target, data = await _collected(messages, archive_bytes(limit))
            check_identity(target.tenant_id, target.project_id)
            key = self._host.key(target.tenant_id, target.project_id)
            tier = tier_of(target.tier) or config.default_tier
            if tier not in config.tiers:
                raise InvalidRequest(f"The pool has no tier {tier}.", remedy="Name a tier that it has.")
            archive = await asyncio.to_thread(unpack, data, limit)
            record = await self._plant(key, tier, Checkpoint(archive.parts), target.replace, ended)
        self._known_as(record, store.shared)
        log.info("instance_imported", instance=key.instance_id, parts=len(archive.parts), bytes=len(data))
        return record_view(self._host, record)

    async def _saved(self, instance_id: str) -> None:
        while True:
            resident = self._host.residents.get(instance_id)
            if resident is None or not resident.entry.leaving:
                break
            # Bounded: whoever has it leave has a deadline.
            await resident.settled.wait()
        await self._host.given_back(instance_id)
        if resident is not None and not resident.durable and (resident.touched or resident.entry.active):
            await resident.checkpoint()

    async def _plant(
        self,
        key: InstanceKey,
        tier: Tier,
        checkpoint: Checkpoint,
        replace: bool,
        ended: frozenset[Incarnation],
    ) -> Record:
        host = self._host
        _, store = host.configured()
        await host.given_back(key.instance_id)
        try:
            return await store.plant(key, tier, checkpoint, replace=replace)
        except NotOwner as exc:
            owner = Incarnation.parse(exc.details["owner"])
            if owner not in {host.incarnation, *ended}:
                raise
        if not replace:
            raise InstanceExists("The instance exists already.")
        entry = host.table.get(key.instance_id)
        if entry is not None and entry.state in RESIDENT:
            raise InstanceExists(
                "The instance is resident: its present state would be overwritten while it is in use.",
                remedy="Pause it, import with replacement, then resume it.",
            )
        # Left over from a failed release or a dead host: own it to release it.
        left = await store.claim(Claim(key, host.incarnation, tier, ended=ended, resume=True))
        await store.release(left, PauseReason.EVICTED)
        return await store.plant(key, tier, checkpoint, replace=True)

    def _known_as(self, record: Record, shared: bool) -> None:
        host = self._host
        entry = host.table.get(record.key.instance_id)
        if entry is not None and entry.state not in RESIDENT:
            # A failure or a pause of the state that was replaced says nothing of this one.
            host.table.remove(entry)
        if not shared:
            # This host alone has it, so it has to tell of it.
            now = host.clock()
            host.table.put(
                Entry(
                    record.key,
                    record.key.instance_id,
                    record.tier,
                    created_at=now,
                    last_used=now,
                    state=State.PAUSED,
                    reason=PauseReason.EVICTED,
                    origin=record.origin,
                )
            )


async def _collected(
    messages: AsyncIterator[host_pb2.ImportRequest], limit: int
) -> tuple[host_pb2.ImportTarget, bytes]:
    target: host_pb2.ImportTarget | None = None
    data = bytearray()
    # Bounded by the call's deadline, which the service sets.
    async for message in messages:
        if target is None:
            if not message.HasField("target"):
                raise InvalidRequest("The first message of an import names no target.")
            target = message.target
        data += message.data
        if len(data) > limit:
            raise PayloadTooLarge(
                f"The archive is longer than {limit} bytes.",
                remedy="Raise limits.stateBytes of the pool, then import again.",
            )
    if target is None:
        raise InvalidRequest("The import brought nothing.")
    return target, bytes(data)


def chunks(data: bytes) -> list[host_pb2.ArchiveChunk]:
    """An archive in the messages of an answer."""
    return [
        host_pb2.ArchiveChunk(data=data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)
    ]
