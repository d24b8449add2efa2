# Generated from client/agentpool_client/_async/journey.py by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""One request over its attempts, directly and through the gateway, to its one end."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from agentpool_client._sync import runtime
from agentpool_client._sync.gateway import Gateway
from agentpool_client._sync.hosts import Hosts, failure_of
from agentpool_client._sync.runtime import closing
from agentpool_client.answers import Chunk, accepted_of, answer_of
from agentpool_client.errors import Broken
from agentpool_client.leasing import HeldLease
from agentpool_client.requests import Course, Request
from agentpool_client.retrying import Failed, RetryPolicy, decide
from agentpool_core.errors import AgentPoolError, Unauthenticated
from agentpool_proto.v1.gateway_pb2 import PoolRef


class Travels:
    """Sends requests of one pool."""

    def __init__(self, gateway: Gateway, hosts: Hosts, pool: PoolRef, policy: RetryPolicy) -> None:
        self._gateway = gateway
        self._hosts = hosts
        self._pool = pool
        self._policy = policy
        self._keys = policy.keys

    def events(self, request: Request) -> runtime.Events:
        """The events of a request, the last is its Answer; raises what it failed with."""
        make_key = _new_key if self._keys else None
        course = Course.begin(request, runtime.now(), make_key)
        while True:
            lease: HeldLease | None = None
            course.accepted = None
            try:
                if course.may_go_direct:
                    left = course.deadline - runtime.now()
                    lease = self._hosts.lease(request.key, left, request.eager)
                with closing(self._attempt(course, lease)) as events:
                    for event in events:
                        yield event
                if course.done:
                    return
                failure: AgentPoolError | None = None
            except Broken as exc:
                # An answer that arrived whole is an answer, however the call ends.
                if course.done:
                    return
                failure = failure_of(exc, course.accepted is not None)
            self._failed(course, lease, failure)

    def _attempt(self, course: Course, lease: HeldLease | None) -> runtime.Events:
        stub = self._hosts.take(lease.address) if lease is not None else None
        course.direct = stub is not None
        try:
            wire = self._wire(course, lease, stub)
            with closing(wire) as events:
                for event in events:
                    match event.WhichOneof("event"):
                        case "accepted":
                            course.accepted = accepted_of(event.accepted)
                            yield course.accepted
                        case "chunk":
                            yield Chunk(msgspec.json.decode(event.chunk.data))
                        case "done":
                            course.done = True
                            yield answer_of(course.accepted, event.done, course.direct, course.attempts)
        finally:
            if lease is not None and stub is not None:
                self._hosts.give_back(lease.address)

    def _wire(self, course: Course, lease: HeldLease | None, stub: Any) -> runtime.Wire:
        left = max(course.deadline - runtime.now(), 0.001)
        if lease is not None and stub is not None:
            message = course.request.for_host(course.idempotency_key)
            return runtime.wire_events(stub.Invoke, message, (("authorization", lease.token),), left)
        metadata = self._gateway.metadata()
        if course.idempotency_key:
            metadata = (*metadata, ("idempotency-key", course.idempotency_key))
        method = self._gateway.stub.InvokeStream
        return runtime.wire_events(method, course.request.for_gateway(self._pool), metadata, left)

    def _failed(self, course: Course, lease: HeldLease | None, error: AgentPoolError | None) -> None:
        """Return to try again, raise what the caller gets."""
        gateway_refused = isinstance(error, Unauthenticated) and not course.direct
        if gateway_refused and self._gateway.token_changed():
            return
        failed = Failed(
            error=error,
            direct=course.direct,
            accepted=course.accepted is not None,
            keyed=bool(course.idempotency_key),
            own_key=course.own_key,
            attempts=course.attempts,
            seconds_left=course.deadline - runtime.now(),
        )
        following = decide(failed, self._policy, runtime.jitter())
        if following.error is not None:
            raise following.error
        if following.without_key:
            self._keys = False
            course.idempotency_key, course.own_key = "", False
        if following.new_lease and lease is not None:
            course.refusals += not following.counts
            self._hosts.useless(course.request.key, lease)
        course.attempts += following.counts
        course.direct = False
        if following.pause_seconds:
            runtime.sleep(following.pause_seconds)


def _new_key() -> str:
    return uuid.uuid4().hex
