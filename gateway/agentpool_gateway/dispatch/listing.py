# SPDX-License-Identifier: Apache-2.0
"""Lists of instances: what hosts hold, joined with the store's index of those that nobody holds."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio

from agentpool_core.config import Storage
from agentpool_core.errors import AgentPoolError, DeadlineExceeded, InstanceNotFound, NoHost, Unavailable
from agentpool_core.lifecycle import State, Tier
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_proto.v1.host_pb2 import InstanceRequest, ListRequest, ListResponse
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.cancellation import caller_cancelled
from agentpool_rpc.status import from_rpc_error

SECONDS = 5.0
SCAN = 500
"""Records read at once when a filter may leave out most of them."""
MAX_SCANS = 10
"""Reads for one page; a page may be shorter than asked, its cursor goes on."""
MAX_LIMIT = 1000
_Answer = TypeVar("_Answer", Instance, ListResponse)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What to list. `visible` says which tenants the caller may see."""

    tenant_id: str = ""
    project_id: str = ""
    tier: Tier | None = None
    state: State | None = None
    cursor: str = ""
    limit: int = 100
    visible: Callable[[str], bool] | None = None

    def matches(self, one: Instance) -> bool:
        """Whether an instance belongs into the list."""
        return (
            (not self.tenant_id or one.tenant_id == self.tenant_id)
            and (not self.project_id or one.project_id == self.project_id)
            and (self.tier is None or one.tier == self.tier)
            and (self.state is None or one.state == self.state)
            and (self.visible is None or self.visible(one.tenant_id))
        )

    @property
    def selective(self) -> bool:
        """Whether it may leave instances out."""
        return bool(self.tenant_id or self.project_id or self.tier or self.state or self.visible)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `cursor` is empty at the end."""

    instances: Sequence[Instance]
    cursor: str


class Listing:
    """Instances of one pool."""

    def __init__(self, fleet: Fleet, table: PoolTable) -> None:
        self._fleet = fleet
        self._table = table

    async def find(self, instance_id: str) -> Instance | None:
        """An instance that no host holds, from the store's index."""
        if self._table.config.checkpoint.storage is Storage.MEMORY:
            return None

        async def get(link: HostLink) -> Instance:
            answer: Instance = await link.stub.Get(
                InstanceRequest(instance_id=instance_id), metadata=_token(link), timeout=SECONDS
            )
            return answer

        try:
            return await self._ask(get)
        except InstanceNotFound:
            return None

    async def page(self, query: ListQuery) -> Page:
        """Instances in the order of their ids, after the query's cursor."""
        if self._table.config.checkpoint.storage is Storage.MEMORY:
            return self._live_page(query)
        return await self._index_page(query)

    def _live_page(self, query: ListQuery) -> Page:
        chosen = (one for one in self._table.instances() if one.id > query.cursor and query.matches(one))
        found = heapq.nsmallest(query.limit + 1, chosen, key=lambda one: one.id)
        more = len(found) > query.limit
        return Page(found[: query.limit], found[query.limit - 1].id if more else "")

    async def _index_page(self, query: ListQuery) -> Page:
        found: list[Instance] = []
        cursor = query.cursor
        for _ in range(MAX_SCANS):
            wanted = query.limit - len(found)
            request = ListRequest(cursor=cursor, limit=SCAN if query.selective else wanted)

            async def read(link: HostLink, request: ListRequest = request) -> ListResponse:
                answer: ListResponse = await link.stub.List(request, metadata=_token(link), timeout=SECONDS)
                return answer

            answer = await self._ask(read)
            # The index knows ownership, the hosts know the moment.
            current = [self._table.instance(one.id) or one for one in answer.instances]
            matching = [one for one in current if query.matches(one)]
            if len(matching) > wanted:
                return Page([*found, *matching[:wanted]], matching[wanted - 1].id)
            found.extend(matching)
            cursor = answer.cursor
            if not cursor or len(found) == query.limit:
                break
        return Page(found, cursor)

    async def _ask(self, call: Callable[[HostLink], Awaitable[_Answer]]) -> _Answer:
        """The first answer of a host: any one can tell, so a broken one is passed over."""
        failure: AgentPoolError = NoHost("No ready host can list instances.", retry_after_seconds=1.0)
        for host in self._hosts():
            try:
                # A host may leave the membership while another one is asked.
                if host.id in self._fleet.links:
                    return await call(self._fleet.links[host.id])
            except asyncio.CancelledError:
                if caller_cancelled():
                    raise
            except grpc.aio.AioRpcError as exc:
                failure = from_rpc_error(exc) or Unavailable("The host broke off.", retry_after_seconds=1.0)
                if isinstance(failure, InstanceNotFound):
                    break
                if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    failure = DeadlineExceeded("The host did not answer in time.")
        raise failure

    def _hosts(self) -> list[Host]:
        hosts = [host for host in self._table.hosts.values() if host.connected]
        return sorted(hosts, key=lambda host: (not host.takes_new, host.status.active_requests))


def _token(link: HostLink) -> tuple[tuple[str, str], ...]:
    return (("authorization", link.authorization()),)
