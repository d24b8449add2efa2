# Generated from client/agentpool_client/_async/hosts.py by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""Direct requests: leases, and one channel per host."""

from __future__ import annotations

from typing import Any

from agentpool_client._sync import runtime
from agentpool_client._sync.gateway import Gateway
from agentpool_client.channels import ChannelCache
from agentpool_client.errors import Broken
from agentpool_client.leasing import HeldLease, Key, LeaseBook, Way
from agentpool_client.retrying import deadline_passed
from agentpool_core.errors import AgentPoolError, DirectAccessOff, HostTooOld, PoolDisabled
from agentpool_proto.v1.gateway_pb2 import AcquireRequest, PoolRef
from agentpool_proto.v1.host_pb2_grpc import AgentHostStub

CONNECT_SECONDS = 1.0
"""A host that does not take a connection in this time is out of reach, or gone."""
_OFF = (DirectAccessOff, HostTooOld, PoolDisabled)
"""The gateway gives no leases, is of a release that knows none, or gives none for this project."""


class Hosts:
    """The ways to hosts.

    Args:
        direct: False: there are none, everything goes through the gateway.
    """

    def __init__(self, gateway: Gateway, pool: PoolRef, direct: bool) -> None:
        self._gateway = gateway
        self._pool = pool
        self._book = LeaseBook(direct)
        self._channels: ChannelCache[runtime.Channel] = ChannelCache()

    def held(self, key: Key) -> HeldLease | None:
        """The lease of an instance."""
        return self._book.held(key)

    def useless(self, key: Key, lease: HeldLease) -> None:
        """A host did not take the lease."""
        self._book.useless(key, lease, runtime.now())

    def lease(self, key: Key, seconds: float, eager: bool = False) -> HeldLease | None:
        """A lease for a request to go with, None where it is to go through the gateway.

        Broken when it takes a new one and the gateway refuses that for a reason that holds for the
        request, too.
        """
        plan = self._book.plan(key, runtime.now(), eager)
        if plan.way is Way.GATEWAY:
            return None
        if plan.way is Way.DIRECT:
            return plan.lease
        try:
            return self._acquire(key, plan.confirm, seconds)
        except Broken as exc:
            self._book.not_acquired(key, exc.error, runtime.now())
            if plan.lease is not None and plan.lease.ends_at > runtime.now():
                # The gateway may be gone: what is leased is served without it.
                return plan.lease
            if isinstance(exc.error, _OFF):
                return None
            raise
        except BaseException:
            self._book.not_acquired(key, None, runtime.now())
            raise

    def _acquire(self, key: Key, confirm: bool, seconds: float) -> HeldLease:
        asked_at = runtime.now()
        request = AcquireRequest(pool=self._pool, tenant_id=key[0], project_id=key[1], confirm=confirm)
        answer = self._gateway.call(lambda stub: stub.Acquire, request, max(seconds, 0.001))
        lease = HeldLease(
            id=answer.id,
            instance_id=answer.instance_id,
            address=answer.address,
            token=answer.token,
            ends_at=asked_at + answer.seconds_left,
        )
        self._book.acquired(key, lease)
        return lease

    def take(self, address: str) -> Any:
        """The stub of a host, connected, or None when it cannot be reached; to be given back."""
        channel = self._channels.take(address, runtime.now())
        if channel is None:
            fresh = runtime.open_host(address)
            if not runtime.connect(fresh, CONNECT_SECONDS):
                runtime.close(fresh)
                self._book.unreachable(address, runtime.now())
                return None
            self._book.reached()
            channel = self._channels.add(address, fresh, runtime.now())
            if channel is not fresh:
                runtime.close(fresh)
        return AgentHostStub(channel)

    def give_back(self, address: str) -> None:
        """The end of a use; closes channels that are idle for long."""
        self._channels.give_back(address, runtime.now())
        for channel in self._channels.surplus(runtime.now()):
            runtime.close(channel)

    def close(self) -> None:
        """Close all channels."""
        for channel in self._channels.clear():
            runtime.close(channel)


def failure_of(broken: Broken, accepted: bool) -> AgentPoolError | None:
    """What a broken call says of the request; None: nothing."""
    return deadline_passed(accepted) if broken.timed_out else broken.error
