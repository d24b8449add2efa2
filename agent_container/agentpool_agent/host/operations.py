# SPDX-License-Identifier: Apache-2.0
"""What callers may do to an instance besides using it: pause, resume, terminate, and retire the host.

A BUSY instance is never interrupted at once: the wish is recorded, in the store too, and done after its
last request (X19). A termination that waited for its grace time goes through ERROR.
"""

from __future__ import annotations

import structlog

from agentpool_agent.host.activation import Activations, Wanted
from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT, Entry
from agentpool_agent.host.views import entry_view, record_view
from agentpool_agent.store import Claim, Record
from agentpool_core.errors import (
    AgentPoolError,
    Conflict,
    IllegalTransition,
    InstanceFailed,
    InstanceNotFound,
    NotOwner,
    StoreUnavailable,
)
from agentpool_core.lifecycle import PauseReason, State, Wish, transition
from agentpool_core.names import Incarnation
from agentpool_proto.v1.types_pb2 import Instance

log = structlog.get_logger(__name__)


class Operations:
    """Pause, resume, terminate and retire."""

    def __init__(self, host: Host, activations: Activations, evictions: Evictions) -> None:
        self._host = host
        self._activations = activations
        self._evictions = evictions

    async def pause(self, instance_id: str, ended: frozenset[Incarnation]) -> Instance:
        """Checkpoint and release; PAUSED until somebody resumes it. Raises IllegalTransition, NotOwner,
        InstanceNotFound, StoreUnavailable."""
        resident = await self.settled(instance_id)
        if resident is None:
            return await self._pause_stored(instance_id, ended)
        if resident.entry.active > 0:
            return await self._wish(resident, Wish.PAUSE)
        if not await self._evictions.leave(resident, PauseReason.USER_REQUESTED):
            raise StoreUnavailable("The instance could not be checkpointed.", retry_after_seconds=1.0)
        return entry_view(self._host, resident.entry)

    async def resume(self, instance_id: str, ended: frozenset[Incarnation]) -> Instance:
        """Lift a pause, or an instance's ERROR whatever its history, and make the instance resident here."""
        host = self._host
        resident = await self.settled(instance_id)
        entry = host.table.get(instance_id)
        if resident is not None or (
            entry is not None and entry.state not in (State.PAUSED, State.ERROR, State.TERMINATED)
        ):
            state = entry.state if entry is not None else State.READY
            raise IllegalTransition(
                f"Only an instance in PAUSED or ERROR can be resumed; this one is {state}."
            )
        record = await self.record(instance_id)
        if record.owner not in (None, host.incarnation) and record.owner not in ended:
            raise NotOwner(str(record.owner))
        wanted = Wanted(record.key, record.tier, ended, resume=True, declared_uid=record.declared_uid)
        resident = await self._activations.activate(wanted)
        return entry_view(host, resident.entry)

    async def terminate(self, instance_id: str, ended: frozenset[Incarnation]) -> Instance:
        """End the instance and erase its state; raises IllegalTransition, NotOwner, InstanceNotFound."""
        resident = await self.settled(instance_id)
        if resident is None:
            return await self._erase_stored(instance_id, ended)
        if resident.entry.active > 0:
            return await self._wish(resident, Wish.TERMINATE)
        await self._erase(resident)
        return entry_view(self._host, resident.entry)

    def retire(self) -> None:
        """Take no instance any more; raises Conflict while one is here or on its way in."""
        host = self._host
        here = sum(1 for entry in host.table if entry.state in RESIDENT)
        if here or self._activations.running:
            raise Conflict(
                f"{here} instances are resident here.", remedy="Wait until they are idle, or drain the host."
            )
        host.retired = True
        log.info("host_retired")

    async def fulfil(self, resident: Resident) -> None:
        """Do what was wished, now that the instance is not busy; tried again later when the store is away."""
        entry = resident.entry
        if self._host.residents.get(entry.instance_id) is not resident or entry.leaving:
            return
        if entry.wish is None or entry.active > 0:
            return
        try:
            if entry.wish is Wish.TERMINATE:
                await self._erase(resident)
            else:
                await self._evictions.leave(resident, PauseReason.USER_REQUESTED)
        except AgentPoolError as exc:
            log.warning("wish_not_done", instance=entry.instance_id, wish=entry.wish, reason=exc.message)

    async def insist(self, resident: Resident) -> None:
        """Terminate a BUSY instance whose grace time has passed: through ERROR to TERMINATED."""
        host, entry = self._host, resident.entry
        if host.residents.get(entry.instance_id) is not resident or entry.state is not State.BUSY:
            return
        del host.residents[entry.instance_id]
        host.table.move(entry, State.ERROR, "It was still busy when it had to terminate.")
        resident.abort(InstanceFailed("The instance was terminated during the request."))
        try:
            await self._erase_stored(entry.instance_id, frozenset())
        except AgentPoolError as exc:
            log.warning("wish_not_done", instance=entry.instance_id, wish=Wish.TERMINATE, reason=exc.message)

    async def fulfil_lost(self, entry: Entry, wish: Wish) -> None:
        """Do what was wished of an instance whose worker died before it was done."""
        host, instance_id = self._host, entry.instance_id
        _, store = host.configured()
        await host.given_back(instance_id)
        try:
            if wish is Wish.TERMINATE:
                await self._erase_stored(instance_id, frozenset())
            else:
                await store.pause(instance_id, PauseReason.USER_REQUESTED)
                await store.wish(instance_id, None)
                host.table.remove(entry)
        except AgentPoolError as exc:
            log.warning("wish_not_done", instance=instance_id, wish=wish, reason=exc.message)

    async def settled(self, instance_id: str) -> Resident | None:
        """The resident once nothing that makes it leave is under way; None: it is not here."""
        while True:
            resident = self._host.residents.get(instance_id)
            if resident is None or not resident.entry.leaving:
                break
            # Bounded: whoever has it leave has a deadline.
            await resident.settled.wait()
        await self._host.given_back(instance_id)
        return self._host.residents.get(instance_id)

    async def _wish(self, resident: Resident, wish: Wish) -> Instance:
        _, store = self._host.configured()
        entry = resident.entry
        before = entry.wish
        entry.wish, entry.wished_at = wish, self._host.clock()
        try:
            await store.wish(entry.instance_id, wish)
        except AgentPoolError:
            entry.wish = before
            raise
        # Those who wait for a permit are refused like those who come now.
        resident.line.interrupt()
        self._host.table.changed(entry.instance_id, True)
        return entry_view(self._host, entry)

    async def _erase(self, resident: Resident) -> None:
        host, entry = self._host, resident.entry
        _, store = host.configured()
        entry.leaving = True
        resident.settled.clear()
        try:
            async with resident.saving:
                await store.erase(entry.instance_id, host.incarnation)
            if host.residents.get(entry.instance_id) is resident:
                del host.residents[entry.instance_id]
                resident.abort(InstanceFailed("The instance was terminated."))
                host.counters.destroyed += 1
                self._terminated(entry)
        finally:
            entry.leaving = False
            resident.settled.set()

    def _terminated(self, entry: Entry) -> None:
        entry.wish, entry.epoch, entry.last_used = None, 0, self._host.clock()
        self._host.table.move(entry, State.TERMINATED)

    async def record(self, instance_id: str) -> Record:
        """What the store knows of an instance; raises InstanceNotFound."""
        _, store = self._host.configured()
        record = await store.get(instance_id)
        if record is None:
            raise InstanceNotFound(f"No instance {instance_id} in this pool.")
        return record

    async def _pause_stored(self, instance_id: str, ended: frozenset[Incarnation]) -> Instance:
        host = self._host
        _, store = host.configured()
        entry = host.table.get(instance_id)
        if entry is not None and entry.state not in (State.PAUSED, State.TERMINATED):
            transition(entry.state, State.PAUSED)
        record = await self.record(instance_id)
        if record.paused is PauseReason.USER_REQUESTED:
            transition(State.PAUSED, State.PAUSED)
        if record_view(host, record).state == State.ERROR:
            # It failed at another host.
            transition(State.ERROR, State.PAUSED)
        if record.owner is not None and record.owner in {host.incarnation, *ended}:
            # Left over from a failed release or a dead host: own it to release it.
            claim = Claim(record.key, host.incarnation, record.tier, ended=ended)
            await store.release(await store.claim(claim), PauseReason.USER_REQUESTED)
            record = await self.record(instance_id)
        else:
            record = await store.pause(instance_id, PauseReason.USER_REQUESTED)
        if entry is not None and entry.state is State.PAUSED:
            entry.reason = PauseReason.USER_REQUESTED
            host.table.changed(instance_id, True)
        return record_view(host, record)

    async def _erase_stored(self, instance_id: str, ended: frozenset[Incarnation]) -> Instance:
        host = self._host
        _, store = host.configured()
        entry = host.table.get(instance_id)
        if entry is not None and entry.state is not State.TERMINATED:
            transition(entry.state, State.TERMINATED)
        record = await self.record(instance_id)
        await store.erase(instance_id, host.incarnation, ended)
        if entry is not None and entry.state in (State.PAUSED, State.ERROR):
            self._terminated(entry)
            return entry_view(host, entry)
        view = record_view(host, record)
        view.state, view.reason, view.epoch = State.TERMINATED, "", 0
        return view
