# SPDX-License-Identifier: Apache-2.0
"""Changes of feature flags that are made through the gateway: kept in the pool's store, by way of any host.

The gateway may neither write objects nor reach the store. What it changes is the whole document of flags,
from the version that it knows; when another gateway was faster, it takes on that one's and changes it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc.aio

from agentpool_core.config import pack_flags
from agentpool_core.errors import (
    AgentPoolError,
    DeadlineExceeded,
    FlagDeclared,
    FlagNotFound,
    HostTooOld,
    NoHost,
    Unavailable,
)
from agentpool_core.flags import Flag, Flags
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet
from agentpool_proto.v1.host_pb2 import SetFlagsRequest, SetFlagsResponse
from agentpool_rpc.cancellation import caller_cancelled
from agentpool_rpc.status import from_rpc_error

SECONDS = 5.0
TRIES = 10
"""Changes of other gateways that one change may meet."""


class FlagCalls:
    """The flags of one pool."""

    def __init__(self, fleet: Fleet, table: PoolTable) -> None:
        self._fleet = fleet
        self._table = table
        self._changing = asyncio.Lock()

    def get(self, name: str) -> Flag:
        """One flag, without I/O; FlagNotFound."""
        flag = self._table.flags.current.all.get(name)
        if flag is None:
            raise FlagNotFound(f"The pool has no flag {name[:64]}.")
        return flag

    async def change(self, name: str, change: Callable[[Flags], Flags]) -> Flag:
        """The flag after a change of it, which this gateway heeds from now on and others at once, too.

        Raises FlagDeclared, InvalidRequest, StoreUnavailable, NoHost.
        """
        await self._change(name, change)
        return self.get(name)

    async def delete(self, name: str) -> None:
        """Forget what was set; a flag that has an effect of its own goes back to its default. Raises
        FlagNotFound, and as `change` does."""

        def without(flags: Flags) -> Flags:
            if name not in flags:
                raise FlagNotFound(f"Nothing was set for a flag {name[:64]}.")
            return {other: flag for other, flag in flags.items() if other != name}

        await self._change(name, without)

    async def _change(self, name: str, change: Callable[[Flags], Flags]) -> None:
        flags = self._table.flags
        # Those of this gateway take turns: each would only undo the version of the one before.
        async with self._changing:
            for _ in range(TRIES):
                if name in flags.current.declared:
                    raise FlagDeclared(f"The pool declares the flag {name}.")
                document = pack_flags(change(flags.current.changed))
                answer = await self._send(SetFlagsRequest(base=flags.told, document=document))
                flags.tell(answer.flags)
                if answer.done:
                    return
        raise Unavailable("Others change the flags all the time.", retry_after_seconds=1.0)

    async def _send(self, request: SetFlagsRequest) -> SetFlagsResponse:
        """The first answer of a host: any one reaches the store, so a broken one is passed over. To ask twice
        is safe, for the second finds a later version."""
        failure: AgentPoolError = NoHost("No ready host can keep flags.", retry_after_seconds=1.0)
        for host in self._hosts():
            link = self._fleet.links.get(host.id)
            if link is None:
                continue
            token = (("authorization", link.authorization()),)
            try:
                answer: SetFlagsResponse = await link.stub.SetFlags(request, metadata=token, timeout=SECONDS)
            except asyncio.CancelledError:
                if caller_cancelled():
                    raise
            except grpc.aio.AioRpcError as exc:
                failure = from_rpc_error(exc) or Unavailable("The host broke off.", retry_after_seconds=1.0)
                if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    failure = DeadlineExceeded("The host did not answer in time.")
                elif not failure.retryable and not isinstance(failure, HostTooOld):
                    break
            else:
                return answer
        raise failure

    def _hosts(self) -> list[Host]:
        hosts = [host for host in self._table.hosts.values() if host.connected]
        return sorted(hosts, key=lambda host: (not host.takes_new, host.status.active_requests))
