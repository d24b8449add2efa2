# SPDX-License-Identifier: Apache-2.0
"""Calls with one answer that can be made twice: repeated where that helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentpool_client._async import runtime
from agentpool_client._async.gateway import Gateway
from agentpool_client._async.hosts import failure_of
from agentpool_client.errors import Broken
from agentpool_client.retrying import Failed, RetryPolicy, decide


class Calls:
    """Makes calls until they are answered, or their error is to be raised."""

    def __init__(self, gateway: Gateway, policy: RetryPolicy, timeout_seconds: float) -> None:
        self._gateway = gateway
        self._policy = policy
        self._timeout_seconds = timeout_seconds

    async def call(self, method: Callable[[Any], Any], request: object) -> Any:
        """One call of the gateway.

        Args:
            method: picks it from the stub.
        """

        async def once(seconds: float) -> Any:
            return await self._gateway.call(method, request, seconds)

        return await self.repeat(once, self._timeout_seconds)

    async def repeat(self, once: runtime.Once, seconds: float) -> Any:
        """What `once` returns, which is given the seconds that are left and may raise Broken."""
        deadline = runtime.now() + seconds
        attempts = 1
        while True:
            try:
                return await once(max(deadline - runtime.now(), 0.001))
            except Broken as exc:
                error = failure_of(exc, False)
            failed = Failed(error, attempts=attempts, seconds_left=deadline - runtime.now())
            following = decide(failed, self._policy, runtime.jitter())
            if following.error is not None:
                raise following.error
            attempts += 1
            await runtime.sleep(following.pause_seconds)
