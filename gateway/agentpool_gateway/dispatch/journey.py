# SPDX-License-Identifier: Apache-2.0
"""One request on its way over hosts: picks a host, and after a failure the next one or the end."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from agentpool_core.errors import AgentPoolError, DeadlineExceeded, NoHost, NotOwner, PoolExhausted
from agentpool_core.lifecycle import Tier
from agentpool_core.names import Incarnation
from agentpool_core.placement import Role
from agentpool_gateway.dispatch.retry import (
    UNKNOWN_OWNER_SECONDS,
    Attempt,
    Owner,
    Step,
    deadline_passed,
    decide,
)
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_rpc.status import from_rpc_error

WAIT_FIRST_SECONDS = 0.01
WAIT_LAST_SECONDS = 0.25
QUARANTINE_SECONDS = 1.0
"""New instances avoid an address this long after a connection to it broke."""


class Journey:
    """The state of one request over its attempts.

    Args:
        instance_id: whose request it is.
        tier: wanted tier, for an instance that does not exist.
        repeatable: whether doing it twice is safe.
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
    ) -> None:
        self._fleet = fleet
        self._table = table
        self._id = instance_id
        self._tier = tier
        self._repeatable = repeatable
        self._deadline = deadline
        self._clock = asyncio.get_running_loop().time
        self._avoid: set[str] = set()
        self._proof: set[Incarnation] = set()
        self._redirect: Incarnation | None = None
        self._tries = 0
        self._hops = 0
        self._waits = 0
        self._waited = 0.0
        self._sticky = False
        self._incarnation: Incarnation | None = None

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self._deadline - self._clock()

    async def next_host(self) -> tuple[HostLink, str]:
        """The host to try now and the call token for it.

        Raises NoHost, PoolExhausted or DeadlineExceeded when there is none.
        """
        while (host := self._pick()) is None:
            await self._wait_for_a_host()
        self._tries += 1
        self._incarnation = host.incarnation
        link = self._fleet.links[host.id]
        return link, link.authorization(tuple(self._proof))

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
            elif owner.id not in self._avoid and not owner.status.draining:
                self._sticky = True
                return owner
        self._sticky = False
        return table.place(self._id, table.tier_of(self._id, self._tier), self._clock(), self._avoid)

    async def _wait_for_a_host(self) -> None:
        tier = self._table.tier_of(self._id, self._tier)
        hosts = self._table.hosts.values()
        coming = any(not host.takes_new for host in hosts) or any(host.role is Role.GENERIC for host in hosts)
        if self.seconds_left <= 0:
            raise DeadlineExceeded("No host was ready in time.")
        if not coming or self._waited >= UNKNOWN_OWNER_SECONDS:
            if any(host.candidate and tier in host.candidate.tiers for host in hosts if host.takes_new):
                raise PoolExhausted(
                    f"No host has room for an instance of tier {tier}.", retry_after_seconds=1.0
                )
            raise NoHost(f"No ready host takes tier {tier}.", retry_after_seconds=1.0)
        self._avoid.clear()
        began = self._clock()
        await self._fleet.changed(min(self.seconds_left, WAIT_LAST_SECONDS))
        self._waited += self._clock() - began

    async def failed(self, link: HostLink, error: grpc.aio.AioRpcError | None, accepted: bool) -> None:
        """Decide after a failed attempt: returns to try again, raises the error for the caller.

        `error` None is a stream that ended without its final event.
        """
        failure = from_rpc_error(error) if error is not None else None
        if failure is None and error is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._return(link.host)
            raise deadline_passed(accepted) from error
        if failure is None:
            await self._broken(link.host)
        elif isinstance(failure, NoHost):
            # The store knows an instance that this gateway never saw, in a tier that the host does not take.
            self._table.learn_tier(self._id, failure.details.get("tier", ""))
        owner = await self._named_owner(failure)
        decision = decide(
            Attempt(
                failure=failure,
                accepted=accepted,
                repeatable=self._repeatable,
                tries=self._tries - self._waits,
                hops=self._hops,
                waited_seconds=self._waited,
                seconds_left=self.seconds_left,
                others=self._others(link.host),
                owner=owner,
                sticky=self._sticky,
                host_ended=link.host.ended or link.host.incarnation != self._incarnation,
            )
        )
        if not accepted:
            self._return(link.host)
        if decision.error is not None:
            raise decision.error from error
        await self._prepare(decision.step, link.host, failure)

    async def _prepare(self, step: Step, host: Host, failure: AgentPoolError | None) -> None:
        match step:
            case Step.ELSEWHERE:
                self._avoid.add(host.id)
            case Step.OWNER if isinstance(failure, NotOwner):
                self._hops += 1
                self._redirect = Incarnation.parse(failure.details["owner"])
            case Step.WAIT:
                began = self._clock()
                pause = min(WAIT_FIRST_SECONDS * 2**self._waits, WAIT_LAST_SECONDS)
                self._waits += 1
                await asyncio.sleep(max(min(pause, self.seconds_left), 0))
                self._waited += self._clock() - began

    async def _broken(self, host: Host) -> None:
        self._table.quarantine(host, self._clock() + QUARANTINE_SECONDS)
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
