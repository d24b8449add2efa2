# SPDX-License-Identifier: Apache-2.0
"""One request on its way over hosts: picks a host, and after a failure the next one or the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import grpc
import grpc.aio

from agentpool_core.errors import AgentPoolError, NoHost, NotOwner, PoolExhausted, Unavailable
from agentpool_core.lifecycle import Tier
from agentpool_core.names import Incarnation
from agentpool_core.placement import Role
from agentpool_gateway.dispatch.retry import (
    CAPACITY_SECONDS,
    OWNER_SECONDS,
    RETRY_AFTER_SECONDS,
    Attempt,
    Owner,
    Step,
    come_back,
    deadline_passed,
    decide,
)
from agentpool_gateway.membership.starts import Starts
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_rpc.status import from_rpc_error

WAIT_FIRST_SECONDS = 0.01
WAIT_LAST_SECONDS = 0.25
LATER_SECONDS = 2.0
"""After so much waiting, pauses are longer: what did not mend at once has many waiters."""
WAIT_LATER_SECONDS = 1.0
WAIT_ROOM_SECONDS = 0.1
"""Between two attempts at a full pool, at least: each of them costs its hosts something."""


class Journey:
    """The state of one request over its attempts.

    Args:
        instance_id: whose request it is.
        tenant_id: who takes turns with other tenants where many instances start at once.
        tier: wanted tier, for an instance that does not exist.
        repeatable: whether doing it twice is safe.
        anywhere: any ready host will do where none holds the instance, whatever the tier: it is not started.
        deadline: time of the event loop's clock.
    """

    def __init__(
        self,
        fleet: Fleet,
        table: PoolTable,
        instance_id: str,
        deadline: float,
        tier: Tier | None = None,
        repeatable: bool = False,
        tenant_id: str = "",
        anywhere: bool = False,
    ) -> None:
        self._fleet = fleet
        self._table = table
        self._id = instance_id
        self._tier = tier
        self._repeatable = repeatable
        self._anywhere = anywhere
        self._deadline = deadline
        self._clock = asyncio.get_running_loop().time
        self._avoid: set[str] = set()
        self._proof: set[Incarnation] = set()
        self._redirect: Incarnation | None = None
        self._tenant_id = tenant_id
        self._starts: Starts | None = None
        self._placed: Host | None = None
        self._acceptances = 0
        self._exhausted = 0
        self._hops = 0
        self._waits = 0
        self._waited = 0.0
        self._announced = False
        self._sticky = False
        self._incarnation: Incarnation | None = None
        self._queued = False

    @property
    def instance_id(self) -> str:
        """Whose request it is."""
        return self._id

    @property
    def direct(self) -> bool:
        """Whether the host of this attempt holds the instance: nothing has to be started or waited for."""
        return self._sticky and not self._waited

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self._deadline - self._clock()

    async def next_host(self) -> tuple[HostLink, str]:
        """The host to try now and the call token for it.

        Raises NoHost, PoolExhausted or DeadlineExceeded when there is none.
        """
        while True:
            await self._holder_answers()
            host = self._pick()
            if host is None:
                await self._wait_for_a_host()
                continue
            link = self._fleet.links[host.id]
            if self._sticky or self._anywhere or host.role is Role.GENERIC:
                break
            self._placed = host
            self._table.placements.begin(self._id, host)
            if await self._turn(link):
                break
            self.settled()
        self._incarnation = host.incarnation
        return link, link.authorization(tuple(self._proof))

    def settled(self) -> None:
        """The attempt is accepted or over: the next instance may start at its host. May be called again."""
        if self._queued:
            self._queued = False
            self._table.room.give(self._tenant_id)
        if self._starts is not None:
            self._starts.done(self._id)
            self._starts = None
        if self._placed is not None:
            self._table.placements.end(self._id, self._placed)
            self._placed = None

    def _queue(self) -> None:
        """Take a place among those who wait for room; raises PoolExhausted when there is none."""
        if self._queued:
            return
        room = self._table.room
        room.limit = self._table.config.limits.capacity_queue_length
        if room.refusal(self._tenant_id) is not None:
            raise PoolExhausted("Too many requests wait for room in the pool.", retry_after_seconds=1.0)
        room.take(self._tenant_id)
        self._queued = True

    async def _turn(self, link: HostLink) -> bool:
        """Whether the instance may start at this host now; False: place it again."""
        starts = link.starts
        if starts.begin(self._id):
            self._starts = starts
            return True
        if self.seconds_left <= 0:
            raise deadline_passed(False)
        load = link.host.load.metrics
        load.queue_length += 1
        try:
            if not await starts.turn(self._tenant_id, self._id, self.seconds_left):
                return False
        finally:
            load.queue_length -= 1
        self._starts = starts
        owner = self._table.owner(self._id)
        if link.host.takes_new and (owner is None or owner.ended):
            return True
        # Meanwhile the host left, or another request has started the instance.
        return False

    async def _holder_answers(self) -> None:
        """Wait while the host that holds the instance is silent and not proven dead.

        Calling it would be of no use: a machine that is frozen still takes connections, and answers none.
        """
        while (owner := self._silent_holder()) is not None:
            if await self._fleet.membership.ended(owner):
                host = self._table.by_incarnation(owner)
                if host is not None:
                    self._table.mark_ended(host)
                continue
            if self.seconds_left <= 0:
                raise deadline_passed(False)
            if self._waited >= OWNER_SECONDS:
                raise Unavailable(
                    "The instance's host does not answer.", retry_after_seconds=RETRY_AFTER_SECONDS
                )
            await self._wait()

    def _silent_holder(self) -> Incarnation | None:
        if self._redirect is not None:
            return None
        owner = self._table.owner(self._id)
        silent = owner is not None and not owner.connected and not owner.ended
        return owner.incarnation if owner is not None and silent else None

    async def _wait(self, least: float = 0.0) -> None:
        pause = max(self._pause(), least)
        await self._waits_for(asyncio.sleep(max(min(pause, self.seconds_left), 0)))

    async def _waits_for(self, pause: Awaitable[None]) -> None:
        began = self._clock()
        self._table.seeking += 1
        try:
            await pause
        finally:
            self._table.seeking -= 1
        self._waited += self._clock() - began

    def _pick(self) -> Host | None:
        table = self._table
        if self._redirect is not None:
            named, self._redirect = table.by_incarnation(self._redirect), None
            if named is not None:
                self._sticky = True
                return named
        owner = table.owner(self._id)
        if owner is not None and owner.incarnation is not None:
            if owner.ended:
                self._proof.add(owner.incarnation)
            elif owner.id not in self._avoid and owner.serves(self._id):
                if not self._repeatable:
                    # With an Idempotency-Key its answer may be there already.
                    table.refusals.check(self._id, owner.id, self._clock())
                self._sticky = True
                return owner
        self._sticky = False
        if self._anywhere:
            return self._least_busy()
        tier, now = table.tier_of(self._id, self._tier), self._clock()
        joined = table.joined(self._id, now, self._avoid)
        return joined or table.place(self._id, tier, now, self._avoid) or self._announce(tier)

    def _announce(self, tier: Tier) -> Host | None:
        """Where a new HOT instance is asked for that no host takes: a shared host refuses it and has the
        operator make its pod."""
        table = self._table
        taken = any(host.candidate and tier in host.candidate.tiers for host in table.ready_hosts())
        if self._announced or taken or not (self._tier is tier is Tier.HOT):
            return None
        self._announced = True
        shared = (host for host in table.ready_hosts() if host.role is Role.SHARED)
        return min(shared, key=lambda host: host.status.active_requests, default=None)

    def _least_busy(self) -> Host | None:
        hosts = [host for host in self._table.ready_hosts() if host.id not in self._avoid]
        return min(hosts, key=lambda host: host.status.active_requests, default=None)

    async def _wait_for_a_host(self) -> None:
        tier = self._table.tier_of(self._id, self._tier)
        hosts = self._table.hosts.values()
        if self.seconds_left <= 0:
            raise deadline_passed(False)
        if not self._coming() or self._waited >= self._table.config.limits.capacity_seconds:
            if any(host.candidate and tier in host.candidate.tiers for host in hosts if host.takes_new):
                raise PoolExhausted(
                    f"No host has room for an instance of tier {tier}.", retry_after_seconds=1.0
                )
            raise NoHost(f"No ready host takes tier {tier}.", retry_after_seconds=1.0)
        self._queue()
        self._avoid.clear()
        await self._waits_for(self._fleet.changed(min(self.seconds_left, WAIT_LAST_SECONDS)))

    def _coming(self) -> bool:
        """Whether a host that takes the instance may be there soon."""
        hosts = self._table.hosts.values()
        if self._announced or self._clock() - self._table.left_at < CAPACITY_SECONDS:
            return True
        return any(not host.takes_new or host.role is Role.GENERIC for host in hosts)

    async def failed(self, link: HostLink, error: grpc.aio.AioRpcError | None, accepted: bool) -> None:
        """Decide after a failed attempt: returns to try again, raises the error for the caller.

        `error` None is a stream that ended without its final event.
        """
        self.settled()
        failure = from_rpc_error(error) if error is not None else None
        if failure is None and error is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._return(link.host)
            raise deadline_passed(accepted) from error
        if failure is None:
            await self._broken(link.host)
        else:
            self._learn(failure, link.host)
        self._acceptances += accepted
        self._exhausted += isinstance(failure, NoHost | PoolExhausted)
        owner = await self._named_owner(failure)
        limits = self._table.config.limits
        decision = decide(
            Attempt(
                failure=failure,
                accepted=accepted,
                repeatable=self._repeatable,
                acceptances=self._acceptances,
                exhausted=self._exhausted,
                hops=self._hops,
                waited_seconds=self._waited,
                seconds_left=self.seconds_left,
                others=self._others(link.host),
                owner=owner,
                sticky=self._sticky,
                host_ended=link.host.ended or link.host.incarnation != self._incarnation,
                capacity_seconds=limits.capacity_seconds,
                queue_seconds=limits.queue_seconds,
            )
        )
        if not accepted:
            self._return(link.host)
        if decision.error is not None:
            decision.error.retry_after_seconds = come_back(decision.error)
            raise decision.error from error
        await self._prepare(decision.step, link.host, failure)

    def _learn(self, failure: AgentPoolError, host: Host) -> None:
        if isinstance(failure, NoHost):
            # The store knows an instance that this gateway never saw, in a tier that the host does not take.
            self._table.learn_tier(self._id, failure.details.get("tier", ""))
        else:
            limits = self._table.config.limits
            lined = limits.queue_length > 0 and limits.queue_seconds > 0
            self._table.refusals.note(self._id, host.id, failure, self._clock(), lined)

    async def _prepare(self, step: Step, host: Host, failure: AgentPoolError | None) -> None:
        match step:
            case Step.ELSEWHERE:
                self._avoid.add(host.id)
            case Step.OWNER if isinstance(failure, NotOwner):
                self._hops += 1
                self._redirect = Incarnation.parse(failure.details["owner"])
            case Step.WAIT if isinstance(failure, NoHost | PoolExhausted):
                self._queue()
                # Whoever was full may have room by now.
                self._avoid.clear()
                await self._wait(WAIT_ROOM_SECONDS)
            case Step.WAIT:
                self._hops = 0
                await self._wait()

    def _pause(self) -> float:
        self._waits += 1
        most = WAIT_LAST_SECONDS if self._waited < LATER_SECONDS else WAIT_LATER_SECONDS
        # Spread: many requests wait for the same host.
        return min(WAIT_FIRST_SECONDS * (1 << min(self._waits - 1, 10)), most) * self._fleet.jitter()

    async def _broken(self, host: Host) -> None:
        self._table.broken(host, self._clock())
        if self._incarnation and await self._fleet.membership.ended(self._incarnation):
            self._proof.add(self._incarnation)
            if host.incarnation == self._incarnation:
                self._table.mark_ended(host)

    async def _named_owner(self, failure: AgentPoolError | None) -> Owner:
        if not isinstance(failure, NotOwner):
            return Owner.NOT_NAMED
        try:
            named = Incarnation.parse(failure.details["owner"])
        except ValueError:
            return Owner.UNKNOWN
        host = self._table.by_incarnation(named)
        if host is not None and host.connected:
            return Owner.DRAINING if host.status.draining else Owner.LIVE
        # A proof that was sent and not taken: the store allows one swap in 2 s.
        if named in self._proof:
            return Owner.UNKNOWN
        # Nobody has tried its channel yet, so nothing says that it is broken.
        if (other := self._table.hosts.get(named.pod_uid)) is not None and not other.tried:
            return Owner.UNKNOWN
        if await self._fleet.membership.ended(named):
            self._proof.add(named)
            return Owner.ENDED
        return Owner.UNKNOWN

    def _others(self, host: Host) -> bool:
        tier = self._table.tier_of(self._id, self._tier)
        return any(
            one is not host and one.id not in self._avoid and one.candidate and tier in one.candidate.tiers
            for one in self._table.ready_hosts()
        )

    def _return(self, host: Host) -> None:
        if host.role is Role.GENERIC and not self._sticky:
            self._table.give_back(host)
