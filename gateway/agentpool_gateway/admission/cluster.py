# SPDX-License-Identifier: Apache-2.0
"""ServiceAccount tokens: the cluster's own issuer, its keys, and how its accounts are called in RBAC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import structlog

from agentpool_core.errors import Unauthenticated
from agentpool_gateway.admission.keys import Fetch, KeySource
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

AUTHENTICATED = "system:authenticated"
RENEW_SECONDS = 300.0
"""Keys that the cluster no longer publishes are forgotten after this time."""
RETRY_SECONDS = 1.0
ACCOUNT = "system:serviceaccount:"
_GROUP = "system:serviceaccounts"


class ClusterIssuer:
    """The issuer of the cluster's ServiceAccount tokens, found out at the start.

    Args:
        audience: that tokens must be for.
        discover: gives the issuer's name; OSError when the cluster cannot tell.
        fetch: gives its JWKS.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        audience: str,
        discover: Callable[[], Awaitable[str]],
        fetch: Fetch,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.audience = audience
        self.issuer = ""
        """Empty before it is known."""
        self._discover = discover
        self._source = KeySource("cluster", fetch, clock)
        self._random = random

    @property
    def known(self) -> bool:
        """Whether tokens can be checked."""
        return bool(self.issuer) and self._source.known

    async def run(self) -> None:
        """Find the issuer and renew its keys until cancelled; what is known stays if the cluster goes."""
        while True:
            try:
                self.issuer = await self._discover() or self.issuer
            except OSError as exc:
                log.warning("cluster_issuer_not_found", reason=str(exc))
            await self._source.refresh()
            heed_cancellation()
            pause = RENEW_SECONDS if self.known else RETRY_SECONDS
            await asyncio.sleep(pause * self._random.uniform(0.8, 1.2))

    async def key(self, kid: str | None, algorithm: str) -> Any:
        """See KeySource."""
        return await self._source.key(kid, algorithm)

    def user(self, claims: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """User and groups as the API server has them for a ServiceAccount; Unauthenticated for others."""
        subject = str(claims["sub"])
        namespace, colon, name = subject.removeprefix(ACCOUNT).partition(":")
        if not subject.startswith(ACCOUNT) or not colon or not namespace or not name:
            raise Unauthenticated("The token is not of a ServiceAccount.")
        return subject, (_GROUP, f"{_GROUP}:{namespace}", AUTHENTICATED)
