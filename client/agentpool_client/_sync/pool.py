# Generated from client/agentpool_client/_async/pool.py by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""The client of one pool."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from agentpool_client._sync import runtime
from agentpool_client._sync.calls import Calls
from agentpool_client._sync.gateway import Gateway
from agentpool_client._sync.handle import Handle
from agentpool_client._sync.hosts import Hosts
from agentpool_client._sync.instances import Instances
from agentpool_client._sync.journey import Travels
from agentpool_client._sync.runtime import closing
from agentpool_client.address import parse_pool, parse_url
from agentpool_client.answers import Answer, Stats
from agentpool_client.credentials import Credentials
from agentpool_client.requests import Request, encode
from agentpool_client.retrying import DEFAULT_RETRIES, RetryPolicy
from agentpool_core.errors import OutcomeUnknown
from agentpool_core.lifecycle import Tier
from agentpool_proto.v1.gateway_pb2 import StatsRequest

TIMEOUT_SECONDS = 60.0


class AgentPool:
    """The client of one pool. Make one, keep it, and use it from everywhere: it holds the connections.

    Args:
        url: the gateway's gRPC port, `grpc://HOST:PORT`, or `grpcs://` for TLS.
        pool: `NAMESPACE/NAME`; empty: the gateway's default pool.
        token: bearer token of the caller.
        token_file: file to read it from, for tokens that are replaced from time to time.
        direct: False: send everything through the gateway. Otherwise requests that follow one another go
            to the instance's host itself where the gateway gives leases and the host can be reached.
        timeout_seconds: deadline of a request that names none; all attempts together.
        retries: when a request is sent again.
        root_certificates: PEM, for `grpcs://`; None: those of the system.

    Raises ValueError for arguments that cannot be. Its methods raise the errors of `agentpool_core.errors`.
    """

    def __init__(
        self,
        url: str,
        *,
        pool: str = "",
        token: str | None = None,
        token_file: str | Path | None = None,
        direct: bool = True,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: RetryPolicy = DEFAULT_RETRIES,
        root_certificates: bytes | None = None,
    ) -> None:
        if not timeout_seconds > 0:
            raise ValueError("timeout_seconds must be over 0")
        credentials = Credentials(token, token_file, runtime.now)
        self._pool = parse_pool(pool)
        self._timeout_seconds = timeout_seconds
        self._gateway = Gateway(parse_url(url), credentials, root_certificates)
        self._hosts = Hosts(self._gateway, self._pool, direct)
        self._travels = Travels(self._gateway, self._hosts, self._pool, retries)
        self._calls = Calls(self._gateway, retries, timeout_seconds)
        self._instances = Instances(self._calls, self._pool)

    @property
    def instances(self) -> Instances:
        """The pool's instances: list, get, create, pause, resume, terminate, move."""
        return self._instances

    def open(self) -> None:
        """Open the client, where a `with` block does not fit. OSError when the token's file cannot be
        read."""
        self._gateway.open()

    def close(self) -> None:
        """Close all connections; requests under way end with an error."""
        self._hosts.close()
        self._gateway.close()

    def __enter__(self) -> AgentPool:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def invoke(
        self,
        tenant_id: str,
        project_id: str,
        input: Any,  # the word of the interface
        *,
        tier: Tier | str = "",
        timeout_seconds: float | None = None,
        strong: bool = False,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Send one request and wait for its answer. The instance is made if it does not exist.

        Args:
            input: anything that JSON can say.
            tier: wanted for an instance that does not exist yet; takes the right to `place`.
            timeout_seconds: until the answer, all attempts together.
            strong: refuse an answer from state that cannot be checked.
            idempotency_key: the request takes effect once however often it is sent with this key, also by
                another process. None: the library makes one, where the pool keeps keys; "": without one.
        """
        with closing(
            self.stream(
                tenant_id,
                project_id,
                input,
                tier=tier,
                timeout_seconds=timeout_seconds,
                strong=strong,
                idempotency_key=idempotency_key,
            )
        ) as events:
            for event in events:
                if isinstance(event, Answer):
                    return event
        raise OutcomeUnknown("The request ended without an answer.")

    def stream(
        self,
        tenant_id: str,
        project_id: str,
        input: Any,
        *,
        tier: Tier | str = "",
        timeout_seconds: float | None = None,
        strong: bool = False,
        idempotency_key: str | None = None,
    ) -> runtime.Events:
        """Send one request and give its events as they come: Accepted, any number of Chunk, then the Answer.

        A second Accepted means that the request is done again: chunks so far are void. Close the iterator
        to give the request up.
        """
        request = Request(
            tenant_id=tenant_id,
            project_id=project_id,
            input=encode(input),
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            tier=tier,
            strong=strong,
            idempotency_key=idempotency_key,
        )
        with closing(self._travels.events(request)) as events:
            for event in events:
                yield event

    def acquire(self, tenant_id: str, project_id: str, *, timeout_seconds: float | None = None) -> Handle:
        """A handle on an instance, for several requests: `with pool.acquire(...) as instance`.

        The instance is resident within the block, and leased where that is possible, so that its requests
        go to its host itself from the first one on. `timeout_seconds` is for the acquire, and for each
        request.
        """
        return Handle(
            self._gateway,
            self._hosts,
            self._travels,
            self._calls,
            self._pool,
            tenant_id,
            project_id,
            timeout_seconds or self._timeout_seconds,
        )

    def get_stats(self) -> Stats:
        """Statistics of the pool at this moment."""
        answer = self._calls.call(lambda stub: stub.GetStats, StatsRequest(pool=self._pool))
        return Stats(json.loads(answer.json))
