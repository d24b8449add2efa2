# SPDX-License-Identifier: Apache-2.0
"""The routing table of one pool: which host holds which instance, and how the hosts are.

Pure: what hosts report goes in, look-ups come out. Where two hosts report one instance, the highest epoch
is the owner. Load figures are kept with their host and go with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from agentpool_core.balance import HostLoad, balancer
from agentpool_core.config import EffectivePool, Storage
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import Incarnation
from agentpool_core.placement import Candidate, GenericQueue, Preference, Role, choose_shared
from agentpool_core.shares import Shares
from agentpool_gateway.membership.base import HostMember, PoolName
from agentpool_gateway.membership.flags import PoolFlags
from agentpool_gateway.membership.placing import Placing
from agentpool_gateway.membership.refusals import Refusals
from agentpool_gateway.membership.totals import Totals
from agentpool_proto.v1.host_pb2 import HostStatus
from agentpool_proto.v1.types_pb2 import Instance

REMEMBERED_TIERS = 10_000
"""Instances that nobody holds, of another tier than the pool's default: their tier says where they wake."""
QUARANTINE_FIRST_SECONDS = 0.25
QUARANTINE_LAST_SECONDS = 5.0
CALM_SECONDS = 30.0
"""After so long without a break, the next one counts as the first."""
FLAPPING_BREAKS = 3
"""Before so many, a host that is back is chosen again at once."""
LIVING = frozenset({State.CREATED, State.INITIALIZING, State.READY, State.BUSY})
"""States in which an instance takes up a place on its host."""
_TIERS = frozenset(Tier)


@dataclass(slots=True, eq=False)
class Host:
    """One host as its Watch stream tells."""

    member: HostMember
    incarnation: Incarnation | None = None
    """None before its first snapshot."""
    connected: bool = False
    """Its Watch stream is open and the snapshot has come."""
    tried: bool = False
    """A watch of it succeeded or failed at least once."""
    ended: bool = False
    """Its incarnation is proven dead."""
    quarantined_until: float = 0.0
    """Not chosen before this time, seconds of the event loop's clock: a connection failed just now."""
    breaks: int = 0
    """Breaks of which each came soon after the one before."""
    status: HostStatus = field(default_factory=HostStatus)
    instances: dict[str, Instance] = field(default_factory=dict)
    busy: int = 0
    candidate: Candidate | None = None
    load: HostLoad = field(default_factory=HostLoad)
    """Times of it are seconds of the event loop's clock."""

    @property
    def id(self) -> str:
        """Its pod's UID."""
        return self.member.pod_uid

    @property
    def takes_new(self) -> bool:
        """Whether it may get an instance that it does not hold."""
        open_ = self.status.ready and not self.status.draining
        return self.connected and open_ and not self.member.leaving

    def serves(self, instance_id: str) -> bool:
        """Whether requests of an instance that it reports go to it. In a pod that is being deleted, what
        lives there is served until the host drains; what does not wakes elsewhere."""
        held = self.instances.get(instance_id)
        lives = held is not None and held.state in LIVING
        return not self.status.draining and (lives or not self.member.leaving)

    @property
    def role(self) -> Role:
        """Shared or Generic; before it said so, Shared."""
        return Role.GENERIC if self.status.role == Role.GENERIC else Role.SHARED


class PoolTable:
    """Hosts and instances of one pool.

    Args:
        config: the pool's effective configuration; replaced by `configure`.
        random: for strategies that draw.
    """

    def __init__(self, config: EffectivePool, random: Random | None = None) -> None:
        self.config = config
        self.name = PoolName(config.namespace, config.name)
        self._random = random or Random(0)  # noqa: S311  # which host is no secret
        self._preference = self._preferred()
        self.flags = PoolFlags(config)
        self.hosts: dict[str, Host] = {}
        self.totals = Totals()
        self.left_at = float("-inf")
        """When a host last left, seconds of the event loop's clock: the next one may be on its way."""
        self.seeking = 0
        """Requests that wait here for a host, or for its answer to come back to them."""
        self.placements: Placing[Host] = Placing()
        self._choices = 0
        self.refusals = Refusals()
        self.room = Shares(config.limits.capacity_queue_length)
        """Places of requests that wait for room in the pool."""
        self._owners: dict[str, Host] = {}
        self._generic = GenericQueue()
        self._tiers: OrderedDict[str, Tier] = OrderedDict()

    # What is told.

    def configure(self, config: EffectivePool) -> None:
        """Take on a changed configuration."""
        before, self.config = self.config, config
        self.flags.configure(config)
        if config.balancing != before.balancing:
            self._preference = self._preferred()

    def add(self, member: HostMember) -> Host:
        """A host joined; nothing is known of it yet."""
        host = self.hosts[member.pod_uid] = Host(member)
        return host

    def renew(self, host: Host, member: HostMember) -> None:
        """What the membership says of a host now."""
        changed = host.member.leaving != member.leaving
        host.member = member
        if changed:
            self._offer(host)

    def remove(self, host: Host, now: float) -> None:
        """A host left the membership. What it has begun it may still accept and answer: it holds nothing any
        more by that, for nobody could be sent there."""
        self.left_at = now
        host.connected = False
        self._forget(host)
        del self.hosts[host.id]
        self._generic.withdraw(host.id)

    def snapshot(self, host: Host, status: HostStatus, instances: Iterable[Instance]) -> None:
        """Everything of a host, in place of what was known."""
        incarnation = Incarnation.parse(status.incarnation)
        if incarnation != host.incarnation:
            self._forget(host)
            self.totals.returned(incarnation)
        for gone in host.instances.keys() - {one.id for one in instances}:
            self._drop(host, gone)
        host.incarnation = incarnation
        host.connected, host.tried, host.ended = True, True, False
        if host.breaks < FLAPPING_BREAKS:
            host.quarantined_until = 0.0
        for one in instances:
            self._put(host, one)
        self._status(host, status)

    def delta(
        self, host: Host, status: HostStatus | None, changed: Iterable[Instance], gone: Iterable[str]
    ) -> None:
        """What changed at a host since its snapshot."""
        for one in changed:
            self._put(host, one)
        for instance_id in gone:
            self._drop(host, instance_id)
        self._status(host, status or host.status)

    def answered(self, host: Host, instance: Instance) -> None:
        """What a host just answered of an instance, ahead of its next report."""
        if instance.id not in host.instances and not host.connected:
            return
        shared = self.config.checkpoint.storage is not Storage.MEMORY
        if instance.state == State.TERMINATED:
            self._drop(host, instance.id)
            self._tiers.pop(instance.id, None)
        elif instance.state == State.PAUSED and shared:
            self._drop(host, instance.id)
            if instance.id not in self._owners:
                self.learn_tier(instance.id, instance.tier)
        else:
            self._put(host, instance)

    def accepted(self, host: Host, instance: Instance) -> None:
        """A host took a request of an instance; kept only where its reports do not say more."""
        known = host.instances.get(instance.id)
        if host.connected and (known is None or known.epoch < instance.epoch):
            self._put(host, instance)

    def disconnected(self, host: Host) -> None:
        """The host's Watch stream broke. Its instances stay: it may be back in milliseconds."""
        host.connected, host.tried = False, True
        self._generic.withdraw(host.id)

    def mark_ended(self, host: Host) -> None:
        """The host's incarnation is dead; its routes stay, so that the proof goes with the next requests."""
        host.ended = True
        self._generic.withdraw(host.id)

    def broken(self, host: Host, now: float) -> None:
        """A connection to it broke: choose others for a while, longer if that goes on."""
        if now < host.quarantined_until or not host.connected:
            # Many requests see one break, and it is not chosen while it is away.
            return
        calm = now - host.quarantined_until > CALM_SECONDS
        host.breaks = 1 if calm else host.breaks + 1
        pause = QUARANTINE_FIRST_SECONDS * 2 ** min(host.breaks - 1, 10)
        host.quarantined_until = now + min(pause, QUARANTINE_LAST_SECONDS)

    # What is asked.

    def owner(self, instance_id: str) -> Host | None:
        """The host that holds the instance, None when none is known to."""
        return self._owners.get(instance_id)

    def instance(self, instance_id: str) -> Instance | None:
        """The instance as its holder reported it."""
        host = self._owners.get(instance_id)
        return host.instances[instance_id] if host else None

    def instances(self) -> Iterator[Instance]:
        """All instances that some host holds, each once."""
        for instance_id, host in self._owners.items():
            yield host.instances[instance_id]

    def by_incarnation(self, incarnation: Incarnation) -> Host | None:
        """The host that is this incarnation now."""
        host = self.hosts.get(incarnation.pod_uid)
        return host if host and host.incarnation == incarnation else None

    def ready_hosts(self) -> list[Host]:
        """Hosts that take new work, any tier."""
        return [host for host in self.hosts.values() if host.takes_new]

    def tier_of(self, instance_id: str, wanted: Tier | None) -> Tier:
        """The tier by which to place an instance: that of a holder which ends or drains, the last one, the
        wanted, the default."""
        held = self.instance(instance_id)
        if held is not None and held.tier in _TIERS:
            return Tier(held.tier)
        return self._tiers.get(instance_id) or wanted or self.config.default_tier

    def learn_tier(self, instance_id: str, tier: str) -> None:
        """The tier that the store has for an instance that nobody holds."""
        if tier not in _TIERS:
            return
        self._tiers[instance_id] = Tier(tier)
        if len(self._tiers) > REMEMBERED_TIERS:
            self._tiers.popitem(last=False)

    def place(self, instance_id: str, tier: Tier, now: float, avoid: Collection[str] = ()) -> Host | None:
        """A host for an instance that nobody holds: for HOT and COLD a waiting generic one if there is
        one, otherwise a shared one that takes the tier."""
        if tier is not Tier.WARM:
            taken = self._reserved(instance_id, tier, now, avoid) or self._take_generic(tier, now, avoid)
            if taken is not None:
                return taken
        candidates = (
            host.candidate
            for host in self.hosts.values()
            if host.candidate is not None and host.takes_new and host.quarantined_until <= now
        )
        chosen = choose_shared(instance_id, tier, candidates, avoid, self._preference, now)
        return self._chosen(chosen) if chosen is not None else None

    def joined(self, instance_id: str, now: float, avoid: Collection[str] = ()) -> Host | None:
        """The host at which the instance is being started by a request of this gateway: others join it."""
        host = self.placements.at(instance_id)
        if host is None or host.id in avoid or not host.takes_new or host.quarantined_until > now:
            return None
        return host

    def give_back(self, host: Host) -> None:
        """A generic host that `place` gave has not taken the instance."""
        self._offer(host)

    # How it is done.

    def _preferred(self) -> Preference:
        balancing = self.config.balancing
        return Preference(balancer(balancing), balancing.affinity, self._random)

    def _chosen(self, host_id: str) -> Host:
        host = self.hosts[host_id]
        self._choices += 1
        host.load.chosen = self._choices
        return host

    def _reserved(self, instance_id: str, tier: Tier, now: float, avoid: Collection[str]) -> Host | None:
        """The host that was made for this instance."""
        for host in self.hosts.values():
            mine = host.status.reserved_for == instance_id and host.id not in avoid
            fits = host.candidate is not None and tier in host.candidate.tiers
            if mine and fits and host.takes_new and host.quarantined_until <= now:
                return host
        return None

    def _take_generic(self, tier: Tier, now: float, avoid: Collection[str]) -> Host | None:
        passed: list[Host] = []
        found: Host | None = None
        while found is None and (taken := self._generic.take(avoid)) is not None:
            host = self.hosts[taken]
            fits = host.candidate is not None and tier in host.candidate.tiers
            if fits and host.quarantined_until <= now:
                found = host
            else:
                passed.append(host)
        for host in passed:
            self._generic.offer(host.id)
        return found

    def _offer(self, host: Host) -> None:
        # A request may give back a host that left the membership meanwhile.
        if self.hosts.get(host.id) is not host:
            return
        free = host.takes_new and not host.status.resident and not host.ended
        if host.role is Role.GENERIC and free and not host.status.reserved_for:
            self._generic.offer(host.id)
        else:
            self._generic.withdraw(host.id)

    def _status(self, host: Host, status: HostStatus) -> None:
        changed = status is not host.status
        host.status = status
        if status.HasField("flags"):
            self.flags.tell(status.flags)
            # They are the pool's, and kept once.
            status.ClearField("flags")
        host.candidate = Candidate(
            id=host.id,
            role=host.role,
            tiers=frozenset(Tier(one) for one in status.tiers if one in _TIERS),
            capacity=status.capacity,
            busy=host.busy,
            resident=status.resident,
            load=host.load,
        )
        if changed:
            host.load.reported(status.active_requests)
            host.load.capabilities = frozenset(status.capabilities)
        # A change of instances alone must not offer a host that a request took a moment ago.
        if changed:
            self._offer(host)

    def _put(self, host: Host, instance: Instance) -> None:
        if instance.state == State.TERMINATED:
            # Its host remembers it for a while; for everybody else there is no such instance any more.
            self._drop(host, instance.id)
            self._tiers.pop(instance.id, None)
            return
        if self._moved_on(host, instance):
            self._drop(host, instance.id)
            if instance.id not in self._owners:
                self.learn_tier(instance.id, instance.tier)
            return
        before = host.instances.get(instance.id)
        host.busy += (instance.state == "BUSY") - (before is not None and before.state == "BUSY")
        host.instances[instance.id] = instance
        owner = self._owners.get(instance.id)
        if owner is None or owner is host or instance.epoch >= owner.instances[instance.id].epoch:
            self._owners[instance.id] = host
        self._tiers.pop(instance.id, None)

    def _moved_on(self, host: Host, instance: Instance) -> bool:
        """Whether the instance wakes elsewhere: it left this host, which does not take its tier any more."""
        left = instance.state in (State.PAUSED, State.ERROR) and host.candidate is not None
        shared = self.config.checkpoint.storage is not Storage.MEMORY
        return left and shared and host.candidate is not None and instance.tier not in host.candidate.tiers

    def _drop(self, host: Host, instance_id: str) -> None:
        instance = host.instances.pop(instance_id, None)
        if instance is None:
            return
        host.busy -= instance.state == "BUSY"
        if self._owners.get(instance_id) is not host:
            return
        del self._owners[instance_id]
        others = [one for one in self.hosts.values() if instance_id in one.instances]
        if others:
            self._owners[instance_id] = max(others, key=lambda one: one.instances[instance_id].epoch)
        elif instance.tier in _TIERS and instance.tier != self.config.default_tier:
            self.learn_tier(instance_id, instance.tier)

    def _forget(self, host: Host) -> None:
        for instance_id in list(host.instances):
            self._drop(host, instance_id)
        self.totals.left(host.incarnation, host.status.counters)
        host.status = HostStatus()
        host.candidate, host.load = None, HostLoad()
