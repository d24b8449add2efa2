# SPDX-License-Identifier: Apache-2.0
"""One long-lived channel and Watch stream per host, feeding the routing tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random

import structlog

from agentpool_core.names import Incarnation
from agentpool_gateway.membership.base import HostMember, Membership, PoolName
from agentpool_gateway.membership.starts import Starts
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_proto.v1 import host_pb2, host_pb2_grpc
from agentpool_rpc.channels import Silence, open_channel
from agentpool_rpc.metrics import Distribution, Distributions
from agentpool_rpc.tokens import TokenSigner, Verb
from agentpool_rpc.watching import Backoff, follow_host

log = structlog.get_logger(__name__)

BACKOFF = Backoff(first_seconds=0.005, last_seconds=1.0)
SILENCE = Silence(ping_seconds=1.0, answer_seconds=2.0)
"""Requests hang at a host that is frozen or cut off until it is noticed. Answering a ping takes no Python, so
a host that is only busy is never taken for silent."""
CLOSE_SECONDS = 5.0
"""How long requests in flight may take to end at a host that left the membership."""
CALLS = frozenset(Verb) - {Verb.WATCH, Verb.RETIRE, Verb.CONFIGURE, Verb.INVOKE_LEASED}
"""Verbs in the token of every call: one token per host serves all, so it is signed twice a minute."""


class HostLink:
    """The gateway's connection to one host.

    Args:
        table: where the host's reports go.
        host: the host's entry in it.
        changed: called after each report and break.
        lag: seconds from the writing of each report to its coming, by the clocks of two machines.

    Attributes:
        unary: whether the host is taken to know InvokeUnary, which those of earlier releases do not.
    """

    def __init__(
        self,
        table: PoolTable,
        host: Host,
        membership: Membership,
        signer: TokenSigner,
        changed: Callable[[], None],
        random: Random,
        lag: Distribution,
    ) -> None:
        self.table = table
        self.host = host
        self._membership = membership
        self._signer = signer
        self._changed = changed
        self._random = random
        self._lag = lag
        self.breaks = 0
        self.channel = open_channel(host.member.address, SILENCE)
        self.stub = host_pb2_grpc.AgentHostStub(self.channel)
        self.starts = Starts()
        self.unary = True

    def authorization(self, ended: tuple[Incarnation, ...] = ()) -> str:
        """The call token for the host's present incarnation."""
        return self._signer.authorization(str(self.host.incarnation), CALLS, ended)

    def lease(self, instance_id: str) -> tuple[str, float]:
        """A call token for requests of one instance, to be given to an application, and when it ends."""
        return self._signer.lease(str(self.host.incarnation), instance_id)

    async def run(self) -> None:
        """Watch the host until cancelled."""
        uid = self.host.member.pod_uid
        try:
            await follow_host(self.stub, uid, self._signer, self, BACKOFF, self._random)
        finally:
            self.starts.interrupt()
            # A pod that was deleted may still answer what it has begun.
            await self.channel.close(CLOSE_SECONDS)

    def told(self, event: host_pb2.WatchEvent) -> None:
        """See Follower."""
        if event.sent_at:
            self._lag.observe(max(time.time() - event.sent_at, 0.0))
        if event.WhichOneof("event") == "snapshot":
            status = event.snapshot.host
            incarnation = Incarnation.parse(status.incarnation)
            self._membership.announced(incarnation)
            self.table.snapshot(self.host, status, event.snapshot.instances)
            log.info("host_watched", pod=self.host.member.pod, incarnation=str(incarnation))
        else:
            delta = event.delta
            self.table.delta(
                self.host, delta.host if delta.HasField("host") else None, delta.changed, delta.gone
            )
        self._changed()

    async def lost(self, reason: str, told: bool) -> None:
        """See Follower."""
        self.breaks += told
        if told:
            log.warning("watch_broken", pod=self.host.member.pod, reason=reason)
        self.table.broken(self.host, asyncio.get_running_loop().time())
        self.table.disconnected(self.host)
        self.starts.interrupt()
        incarnation = self.host.incarnation
        if incarnation and not self.host.ended and await self._membership.ended(incarnation):
            self.table.mark_ended(self.host)
        self._changed()


class Fleet:
    """All pools with their tables, and all hosts with their links, as the membership wants them."""

    def __init__(self, membership: Membership, signer: TokenSigner, random: Random) -> None:
        self._membership = membership
        self._signer = signer
        self._random = random
        self._changed = asyncio.Event()
        self._was_ready = False
        self._past_breaks = 0
        self.watch_lag = Distributions(
            "agent_pool_watch_lag_seconds",
            "Age of a host's report when it came, by the clocks of two machines.",
        )
        self.tables: dict[PoolName, PoolTable] = {}
        self.links: dict[str, HostLink] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def membership(self) -> Membership:
        """Where pools and hosts come from."""
        return self._membership

    @property
    def ready(self) -> bool:
        """Whether requests can be placed rightly: the membership is read, and every host that is up has told
        what it holds. Once true it stays so."""
        if not self._was_ready:
            self._was_ready = self._membership.ready and all(
                host.tried for table in self.tables.values() for host in table.hosts.values()
            )
        return self._was_ready

    @property
    def watch_breaks(self) -> int:
        """Watch streams that broke, since the start."""
        return self._past_breaks + sum(link.breaks for link in self.links.values())

    def jitter(self) -> float:
        """A factor by which to stretch a pause, so that those who began together do not go on together."""
        return self._random.uniform(0.75, 1.25)

    async def changed(self, timeout_seconds: float) -> None:
        """Wait for the next report of any host, at most that long."""
        event = self._changed
        try:
            async with asyncio.timeout(max(timeout_seconds, 0)):
                await event.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Hold the links until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._membership.subscribe(lambda: self._follow(tasks))
            self._follow(tasks)
            await self._membership.run()

    def _notify(self) -> None:
        # Waiters hold the old event; a new one serves those that come later.
        self._changed.set()
        self._changed = asyncio.Event()

    def _follow(self, tasks: asyncio.TaskGroup) -> None:
        pools = self._membership.pools
        wanted = {host.pod_uid: host for pool in pools.values() for host in pool.hosts}
        for uid in [uid for uid, link in self.links.items() if wanted.get(uid) != link.host.member]:
            self._tasks.pop(uid).cancel()
            link = self.links.pop(uid)
            self._past_breaks += link.breaks
            link.table.remove(link.host, asyncio.get_running_loop().time())
        for uid, link in self.links.items():
            link.table.renew(link.host, wanted[uid])
        for name in self.tables.keys() - pools.keys():
            del self.tables[name]
        for name, pool in pools.items():
            if name in self.tables:
                self.tables[name].configure(pool.config)
            else:
                self.tables[name] = PoolTable(pool.config, self._random)
        for uid in wanted.keys() - self.links.keys():
            self._open(wanted[uid], tasks)
        self._notify()

    def _open(self, member: HostMember, tasks: asyncio.TaskGroup) -> None:
        table = self.tables[member.pool]
        host = table.add(member)
        lag = self.watch_lag.child()
        link = HostLink(table, host, self._membership, self._signer, self._notify, self._random, lag)
        self.links[member.pod_uid] = link
        self._tasks[member.pod_uid] = tasks.create_task(link.run(), name=f"watch {member.pod}")
