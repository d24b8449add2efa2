# SPDX-License-Identifier: Apache-2.0
"""Keeps a mirror equal to what the API server has: list, then watch, and what to do when either breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import structlog

from agentpool_gateway.kube.client import KubeApi, KubeError
from agentpool_gateway.membership.mirror import EXPIRED, Mirror, Outcome
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

WATCH_SECONDS = (40, 55)
"""The server is asked to end each watch after a time between these, so that gateways do not come at once."""
SILENT_SECONDS = 65.0
"""Nothing for longer than a watch lasts: the connection is dead, though nobody closed it."""
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_LAST_SECONDS = 10.0


class Reflector:
    """One collection.

    Args:
        changed: called on the event loop after the mirror changed.
        silent_seconds: how long a watch may bring nothing.
    """

    def __init__(
        self,
        api: KubeApi,
        path: str,
        selector: str,
        mirror: Mirror[Any],
        changed: Callable[[], None],
        random: Random,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._mirror = mirror
        self._changed = changed
        self._random = random
        self._silent_seconds = silent_seconds

    async def run(self) -> None:
        """Keep the mirror up to date until cancelled; what it knows stays while the server is away."""
        delay = BACKOFF_FIRST_SECONDS
        while True:
            try:
                if not self._mirror.version:
                    await self._list()
                if await self._watch():
                    delay = BACKOFF_FIRST_SECONDS
                    continue
                reason, remedy = "ended by the server", ""
            except KubeError as exc:
                reason, remedy = str(exc), exc.remedy
                if exc.status == EXPIRED:
                    self._mirror.version = ""
            except ValueError as exc:
                # A line longer than the client takes.
                reason, remedy = str(exc), ""
            heed_cancellation()
            log.warning("cluster_watch_broken", path=self._path, reason=reason, remedy=remedy)
            await asyncio.sleep(delay * self._random.uniform(0.5, 1.0))
            delay = min(delay * 2, BACKOFF_LAST_SECONDS)

    async def _list(self) -> None:
        items, version = await self._api.list(self._path, self._selector)
        self._mirror.replace(items, version)
        log.info("cluster_listed", path=self._path, objects=len(items))
        self._changed()

    async def _watch(self) -> bool:
        """Follow one watch to its end; whether the next one may begin at once."""
        began = asyncio.get_running_loop().time()
        seconds = self._random.randint(*WATCH_SECONDS)
        events = 0
        async with self._api.watch(
            self._path, self._selector, self._mirror.version, seconds, self._silent_seconds
        ) as stream:
            async for event in stream:
                events += 1
                outcome = self._mirror.apply(event)
                if outcome is Outcome.CHANGED:
                    self._changed()
                elif outcome is not Outcome.UNCHANGED:
                    return outcome is Outcome.RELIST and events > 1
        # A server that ends every watch at once must not be asked again without a pause.
        return events > 0 or asyncio.get_running_loop().time() - began > 1.0
