# Generated from client/agentpool_client/_async/handle.py by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""An instance in the hand: acquired, used, and released exactly once."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from agentpool_client._sync import runtime
from agentpool_client._sync.calls import Calls
from agentpool_client._sync.gateway import Gateway
from agentpool_client._sync.hosts import Hosts
from agentpool_client._sync.journey import Travels
from agentpool_client._sync.runtime import closing
from agentpool_client.answers import Answer
from agentpool_client.errors import Broken, HandleReleased
from agentpool_client.requests import Request, encode
from agentpool_core.errors import AgentPoolError, OutcomeUnknown
from agentpool_proto.v1.gateway_pb2 import CreateInstanceRequest, PoolRef, ReleaseRequest

RELEASE_SECONDS = 2.0
"""A report is worth no more waiting than this; a lease that is not reported just ends."""


class Handle:
    """An instance that was acquired. Use it in a `with` block, once; `AgentPool.acquire` makes it.

    The instance is resident when the block begins. At its end the handle is released, with the number of
    requests, how many of them failed, and the time it was held. It holds nothing back: the instance can be
    evicted or moved meanwhile, and requests follow it.
    """

    def __init__(
        self,
        gateway: Gateway,
        hosts: Hosts,
        travels: Travels,
        calls: Calls,
        pool: PoolRef,
        tenant_id: str,
        project_id: str,
        timeout_seconds: float,
    ) -> None:
        self._gateway = gateway
        self._hosts = hosts
        self._travels = travels
        self._calls = calls
        self._pool = pool
        self._key = (tenant_id, project_id)
        self._timeout_seconds = timeout_seconds
        self._entered_at: float | None = None
        self._released = False
        self._lease_id = ""
        self._instance_id = ""
        self._requests = 0
        self._failures = 0

    @property
    def instance_id(self) -> str:
        """Id of the instance; HandleReleased."""
        self._check()
        return self._instance_id

    @property
    def requests(self) -> int:
        """How many requests were sent, failed ones too."""
        return self._requests

    @property
    def failures(self) -> int:
        """How many of them failed."""
        return self._failures

    def __enter__(self) -> Handle:
        """Make the instance resident, and lease it where that is possible."""
        if self._entered_at is not None:
            raise HandleReleased("A handle is entered once.")
        self._entered_at = runtime.now()
        try:
            self._calls.repeat(self._acquire, self._timeout_seconds)
        except BaseException:
            self._released = True
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release."""
        self.release()

    def invoke(
        self,
        input: Any,  # the word of the interface
        *,
        timeout_seconds: float | None = None,
        strong: bool = False,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Send one request and wait for its answer; as `AgentPool.invoke`. HandleReleased."""
        with closing(
            self.stream(
                input, timeout_seconds=timeout_seconds, strong=strong, idempotency_key=idempotency_key
            )
        ) as events:
            for event in events:
                if isinstance(event, Answer):
                    return event
        raise OutcomeUnknown("The request ended without an answer.")

    def stream(
        self,
        input: Any,
        *,
        timeout_seconds: float | None = None,
        strong: bool = False,
        idempotency_key: str | None = None,
    ) -> runtime.Events:
        """Send one request and give its events as they come; as `AgentPool.stream`. HandleReleased."""
        self._check()
        request = Request(
            tenant_id=self._key[0],
            project_id=self._key[1],
            input=encode(input),
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            strong=strong,
            idempotency_key=idempotency_key,
            eager=True,
        )
        self._requests += 1
        answered = False
        try:
            with closing(self._travels.events(request)) as events:
                for event in events:
                    answered = isinstance(event, Answer)
                    yield event
        finally:
            self._failures += not answered

    def release(self) -> None:
        """Release the handle before the end of its block; again is of no effect. Never raises: whether the
        report arrives is no concern of the work that was done."""
        if self._released or self._entered_at is None:
            return
        self._released = True
        lease = self._hosts.held(self._key)
        lease_id = lease.id if lease is not None else self._lease_id
        if not lease_id:
            return
        report = ReleaseRequest(
            pool=self._pool,
            lease_id=lease_id,
            requests=self._requests,
            failures=self._failures,
            held_seconds=runtime.now() - self._entered_at,
        )
        try:
            self._gateway.call(lambda stub: stub.Release, report, RELEASE_SECONDS)
        except (Broken, AgentPoolError):
            return

    def _acquire(self, seconds: float) -> None:
        lease = self._hosts.lease(self._key, seconds, eager=True)
        if lease is not None:
            self._lease_id, self._instance_id = lease.id, lease.instance_id
            return
        request = CreateInstanceRequest(pool=self._pool, tenant_id=self._key[0], project_id=self._key[1])
        created = self._gateway.call(lambda stub: stub.CreateInstance, request, seconds)
        self._instance_id = created.id

    def _check(self) -> None:
        if self._entered_at is None:
            raise HandleReleased("The handle was not entered: use `with`.")
        if self._released:
            raise HandleReleased("The handle was released.")
