# SPDX-License-Identifier: Apache-2.0
"""What becomes of an instance that failed: noted with its record, decided by its history, carried out here.

    worker lost, start failed --> Failure --> history (noted, fenced) --> decision --> ERROR, then a try
The rules are `agentpool_core.recovery`; this part knows the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import structlog

from agentpool_agent.host.instance import Resident
from agentpool_agent.host.policy import policy_of
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry
from agentpool_agent.store import Ownership, Record
from agentpool_core.errors import AgentPoolError, InstanceFailed
from agentpool_core.lifecycle import PauseReason, State, Tier, Wish
from agentpool_core.names import Incarnation
from agentpool_core.recovery import (
    Cause,
    Decision,
    Failure,
    History,
    Policy,
    Strategy,
    decide,
    judge,
    refusal,
)

log = structlog.get_logger(__name__)

AT_WORK_SECONDS = 0.5
"""An instance that has been busy for longer is noted as at work, so that an end of its host counts for it.
Shorter requests cost no write, and an end of the host rarely meets them."""
NOTED_AT_ONCE = 64
"""Notes in one round; the others follow a second later."""


class Recoveries:
    """Failures of the instances of one host.

    Args:
        fulfil_lost: does what was wished of an instance whose worker died before it was done.
    """

    def __init__(self, host: Host, fulfil_lost: Callable[[Entry, Wish], Awaitable[None]]) -> None:
        self._host = host
        self._fulfil_lost = fulfil_lost
        self._code = ""

    def policy(self) -> Policy:
        """See `policy_of`."""
        return policy_of(self._host)

    def revision(self) -> str:
        """Changes with the agent's code and configuration; empty while no zygote was ever there."""
        hello, config = self._host.nursery.hello, self._host.config
        self._code = hello.revision if hello is not None else self._code
        if not self._code or config is None:
            return ""
        facts = (
            self._code,
            config.agent.entrypoint,
            msgspec.json.encode(config.agent.config, order="sorted"),
        )
        return hashlib.blake2s(repr(facts).encode(), digest_size=8).hexdigest()

    # Before a start

    def check(self, before: Entry | None, record: Record | None, ended: frozenset[Incarnation]) -> None:
        """Raise InstanceFailed while the instance must not be tried again."""
        history = before.history if before is not None and before.state is State.ERROR else History()
        tier = before.tier if before is not None else Tier.WARM
        if record is not None:
            if not self._claimable(record, ended):
                # Its owner speaks for it, and the claim says so.
                return
            history, tier = _newer(History.unpack(record.failures), history), record.tier
            if record.owner != self._host.incarnation:
                history = history.taken(0, tier)
        decision = refusal(self._current(history), self.policy(), self._host.wall())
        if decision is not None:
            last = history.failures[-1]
            raise InstanceFailed(
                f"The instance is in ERROR ({last.cause}). {decision.reason} Last seen: {last.message}",
                retry_after_seconds=decision.retry_after_seconds,
            )

    def _claimable(self, record: Record, ended: frozenset[Incarnation]) -> bool:
        owner = record.owner
        return owner is None or owner in ended or owner.pod_uid == self._host.incarnation.pod_uid

    def _current(self, history: History) -> History:
        revision = self.revision()
        return history.under(revision) if revision else history

    def found(self, entry: Entry, before: Entry | None, ownership: Ownership, *, resumed: bool) -> None:
        """Take the history over with the claim; a user's resume begins it anew."""
        entry.noted = ownership.failures
        stored = History.unpack(ownership.failures)
        if before is not None:
            stored = _newer(stored, before.history)
        taken = self._current(stored).taken(ownership.epoch, entry.tier)
        if len(taken.failures) > len(stored.failures) and taken.failures[-1].cause is Cause.HOST_LOST:
            self._tell(entry, taken)
        entry.history = History(revision=self.revision()) if resumed else taken

    def decision(self, entry: Entry) -> Decision | None:
        """What the history says about the next try; None when nothing failed, or all is well again."""
        return judge(entry.history, self.policy()) if entry.history.failed else None

    def would(self, entry: Entry, failure: Failure) -> Strategy:
        """What this failure would lead to."""
        decision = judge(entry.history.after(failure), self.policy())
        return decision.strategy if decision is not None else Strategy.RESTART

    # Failures

    def failure(self, entry: Entry, cause: Cause, message: str, *, starting: bool = False) -> Failure:
        """A failure of now."""
        return Failure(self._host.wall(), cause, entry.tier, starting, message)

    def observe(self, entry: Entry, failure: Failure) -> Decision:
        """Add a failure to the history, say so, and give the decision; the state stays as it is."""
        entry.history = entry.history.after(failure)
        return self._tell(entry, entry.history)

    def _tell(self, entry: Entry, history: History) -> Decision:
        failure = history.failures[-1]
        earlier = replace(history, failures=history.failures[:-1])
        decision = decide(earlier, failure, self.policy())
        self._host.counters.failures[failure.cause, decision.strategy] += 1
        log.warning(
            "instance_failed",
            instance=entry.instance_id,
            tier=entry.tier,
            cause=failure.cause,
            strategy=decision.strategy,
            retry_after_seconds=decision.retry_after_seconds,
            reason=failure.message,
        )
        return decision

    def failed(self, entry: Entry, ownership: Ownership, failure: Failure, rate: bytes = b"") -> None:
        """The instance has stopped: to ERROR, noted and released; what is decided follows."""
        decision = self.observe(entry, failure)
        self._host.table.move(entry, State.ERROR, failure.cause)
        # Released, so that the next claim has a new epoch and anybody can make it.
        self._host.give_back(ownership, rate, entry)
        if decision.target is not None and entry.wish is None:
            self._host.spawn(self._migrate(entry, decision.target), "migrate")

    async def _migrate(self, entry: Entry, tier: Tier) -> None:
        migrate = self._host.migrate
        if migrate is None or not await migrate(entry, tier):
            # It is tried where it is, after its wait.
            log.error("migration_failed", instance=entry.instance_id, tier=entry.tier, wanted=tier)
            return
        log.info("instance_migrated", instance=entry.instance_id, tier=tier)
        if entry.state is State.ERROR:
            self._host.table.remove(entry)

    def lost(self, resident: Resident, reason: str, cause: Cause | None) -> None:
        """The worker of an instance is gone; `cause` None: this host must not speak for it any more."""
        host, entry = self._host, resident.entry
        if host.residents.get(entry.instance_id) is not resident:
            return
        del host.residents[entry.instance_id]
        host.counters.destroyed += 1
        entry.last_used = host.clock()
        if cause is None:
            log.warning("instance_dropped", instance=entry.instance_id, reason=reason)
            host.table.remove(entry)
            return
        host.counters.crashes += 1
        wish, entry.wish = entry.wish, None
        if cause is Cause.HOST_LOST and entry.state is State.READY:
            # Not its doing, and nothing was under way.
            log.warning("worker_lost", instance=entry.instance_id, reason=reason)
            entry.epoch, entry.revive = 0, True
            host.table.move(entry, State.PAUSED, PauseReason.EVICTED)
            host.give_back(resident.ownership, resident.bucket.pack(), entry)
        else:
            if entry.state is State.READY:
                # No edge leads from READY to ERROR: it is found out like a request that fails (X19).
                host.table.move(entry, State.BUSY)
            failure = self.failure(entry, cause, f"Its worker is gone: {reason}.")
            self.failed(entry, resident.ownership, failure, resident.bucket.pack())
        if wish is not None:
            host.spawn(self._fulfil(entry, wish), "wish")

    async def _fulfil(self, entry: Entry, wish: Wish) -> None:
        await self._fulfil_lost(entry, wish)

    def strained(self, resident: Resident, message: str) -> None:
        """A request failed for want of memory; the instance goes on, and moves when it happens too often."""
        entry = resident.entry
        decision = self.observe(entry, self.failure(entry, Cause.MEMORY_EXCEEDED, message))
        entry.history = entry.history.calm()
        relocate = self._host.relocate
        if decision.target is not None and relocate is not None and entry.move_to is None:
            self._host.spawn(self._relocate(entry, decision.target, relocate), "relocate")

    async def _relocate(
        self, entry: Entry, tier: Tier, relocate: Callable[[Entry, Tier], Awaitable[object]]
    ) -> None:
        try:
            await relocate(entry, tier)
        except AgentPoolError as exc:
            log.error("migration_failed", instance=entry.instance_id, wanted=tier, reason=exc.message)

    # Notes

    async def note_all(self) -> None:
        """Have the store know who is at work or well, and whose breaker turned; at most NOTED_AT_ONCE now."""
        host = self._host
        if host.store is None or host.store_silent:
            return
        shared, now, left = host.store.shared, host.clock(), NOTED_AT_ONCE
        for resident in list(host.residents.values()):
            entry = resident.entry
            if entry.active == 0:
                entry.history = entry.history.calm()
            elif shared and entry.history.work is None and now - entry.busy_since > AT_WORK_SECONDS:
                entry.history = entry.history.working(entry.epoch, host.wall())
            if left > 0 and (entry.breaker_due or entry.history.pack() != entry.noted):
                left -= 1
                await self._note(resident)

    def calmed(self, resident: Resident) -> None:
        """An instance is not busy any more: have its note taken back at once."""
        if resident.entry.history.work is not None:
            resident.entry.history = resident.entry.history.calm()
            self._host.spawn(self._note(resident), "note")

    def breaker_turned(self, resident: Resident) -> None:
        """If a breaker has opened or closed, have it noted at once; that of a lost worker goes with the
        release."""
        if resident.entry.breaker_due and not resident.dead:
            self._host.spawn(self._note(resident), "note")

    async def _note(self, resident: Resident) -> None:
        try:
            await self._host.note(resident.entry, resident.ownership, resident.bucket)
        except AgentPoolError as exc:
            # The next round tries again; a lost ownership shows at the next write.
            log.info("history_not_noted", instance=resident.entry.instance_id, reason=exc.message)


def _newer(stored: History, here: History) -> History:
    """The one with the later failure: a note may not have reached the store."""
    if not here.failures or (stored.failures and stored.failures[-1].at >= here.failures[-1].at):
        return stored
    return here
