# SPDX-License-Identifier: Apache-2.0
"""Membership from a file, for hosts that are plain processes.

pools:
- config: {namespace: demo, name: support, uid: ..., ...}     # EffectivePool
  hosts:
  - {pod: support-0, pod_uid: 2f7c..., address: "127.0.0.1:7000"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from agentpool_core.config import EffectivePool
from agentpool_core.names import Incarnation
from agentpool_gateway.membership.base import HostMember, PoolMember, PoolName
from agentpool_gateway.settings import split_address
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""How soon a changed file is noticed."""
PROBE_SECONDS = 0.5
"""A process that listens answers on this machine in microseconds; no answer proves nothing."""
REMEMBERED = 4096
"""Incarnations known to have ended; each is 60 bytes of text."""


class MembershipError(ValueError):
    """The membership file cannot be used; the text says why."""


class _Host(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pod: str
    pod_uid: str
    address: str

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value


class _Pool(BaseModel):
    model_config = ConfigDict(extra="forbid")

    config: EffectivePool
    hosts: tuple[_Host, ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pools: tuple[_Pool, ...] = ()


def parse_members(text: str) -> dict[PoolName, PoolMember]:
    """The pools of a membership file's text; MembershipError when it is wrong."""
    try:
        parsed = _File.model_validate(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValidationError) as exc:
        raise MembershipError(str(exc)) from exc
    pools: dict[PoolName, PoolMember] = {}
    uids: set[str] = set()
    for one in parsed.pools:
        name = PoolName(one.config.namespace, one.config.name)
        if name in pools:
            raise MembershipError(f"pool {name} is listed twice")
        hosts = tuple(HostMember(name, host.pod, host.pod_uid, host.address) for host in one.hosts)
        for host in hosts:
            if host.pod_uid in uids:
                raise MembershipError(f"pod_uid {host.pod_uid} is listed twice")
            uids.add(host.pod_uid)
        pools[name] = PoolMember(one.config, hosts)
    return pools


class StaticMembership:
    """Membership that a file lists.

    Proof that a host ended is a later incarnation of the same pod, or that nobody listens at its address
    any more: the kernel refuses the connection. That holds because the processes are on addresses of their
    own; in a cluster an address moves on to other pods, and the pod watch gives the proof instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pools: dict[PoolName, PoolMember] = {}
        self._ready = False
        self._seen: tuple[int, int, int] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._latest: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._ended: dict[Incarnation, None] = {}

    @property
    def pools(self) -> Mapping[PoolName, PoolMember]:
        """All pools, as last read."""
        return self._pools

    @property
    def ready(self) -> bool:
        """Whether the file has been read."""
        return self._ready

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def announced(self, incarnation: Incarnation) -> None:
        """Nonces of one pod sort by time; a late message of an earlier life changes nothing."""
        if incarnation.nonce > self._latest.get(incarnation.pod_uid, ""):
            self._latest[incarnation.pod_uid] = incarnation.nonce

    async def ended(self, incarnation: Incarnation) -> bool:
        """Proof by a later life of the pod, or by a refused connection."""
        if incarnation in self._ended:
            return True
        if self._latest.get(incarnation.pod_uid, "") <= incarnation.nonce:
            address = self._addresses.get(incarnation.pod_uid)
            if address is None or not await refuses(address):
                return False
        if len(self._ended) >= REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._ended[incarnation] = None
        log.info("incarnation_ended", incarnation=str(incarnation))
        return True

    async def load(self) -> None:
        """Read the file if it changed; MembershipError or OSError when it cannot be used, which keeps what
        was read before."""
        stat = await asyncio.to_thread(self._path.stat)
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        self._pools = parse_members(await asyncio.to_thread(self._path.read_text))
        self._ready = True
        # Addresses of hosts that left the list stay: they may still be named as owners.
        for pool in self._pools.values():
            for host in pool.hosts:
                self._addresses[host.pod_uid] = host.address
        hosts = sum(len(pool.hosts) for pool in self._pools.values())
        log.info("membership_read", pools=len(self._pools), hosts=hosts)
        for listener in self._listeners:
            listener()

    async def run(self) -> None:
        """Read the file again whenever it changes."""
        while True:
            try:
                await self.load()
            except (MembershipError, OSError) as exc:
                log.warning("membership_unusable", path=str(self._path), reason=str(exc))
            heed_cancellation()
            await asyncio.sleep(POLL_SECONDS)


async def refuses(address: str) -> bool:
    """Whether the kernel says that nobody listens there."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
