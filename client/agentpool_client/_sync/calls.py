# Generated from client/agentpool_client/_async/calls.py by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""Calls with one answer that can be made twice: repeated where that helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentpool_client._sync import runtime
from agentpool_client._sync.gateway import Gateway
from agentpool_client._sync.hosts import failure_of
from agentpool_client.errors import Broken
from agentpool_client.retrying import Failed, RetryPolicy, decide


class Calls:
    """Makes calls until they are answered, or their error is to be raised."""

    def __init__(self, gateway: Gateway, policy: RetryPolicy, timeout_seconds: float) -> None:
        self._gateway = gateway
        self._policy = policy
        self._timeout_seconds = timeout_seconds

    def call(self, method: Callable[[Any], Any], request: object) -> Any:
        """One call of the gateway.

        Args:
            method: picks it from the stub.
        """

        def once(seconds: float) -> Any:
            return self._gateway.call(method, request, seconds)

        return self.repeat(once, self._timeout_seconds)

    def repeat(self, once: runtime.Once, seconds: float) -> Any:
        """What `once` returns, which is given the seconds that are left and may raise Broken."""
        deadline = runtime.now() + seconds
        attempts = 1
        while True:
            try:
                return once(max(deadline - runtime.now(), 0.001))
            except Broken as exc:
                error = failure_of(exc, False)
            failed = Failed(error, attempts=attempts, seconds_left=deadline - runtime.now())
            following = decide(failed, self._policy, runtime.jitter())
            if following.error is not None:
                raise following.error
            attempts += 1
            runtime.sleep(following.pause_seconds)
