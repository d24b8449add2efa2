# SPDX-License-Identifier: Apache-2.0
"""Health and metrics over HTTP.

`/healthz` fails when the event loop cannot answer, or keys have been due for too long with nobody taking
them: the kubelet then restarts the process. `/readyz` tells that the process runs, leading or not.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from agentpool_rpc.metrics import process_text

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Probes:
    """The two small servers.

    Args:
        unwell: what is wrong; empty: nothing.
        metrics: what a scrape gets.
    """

    def __init__(self, unwell: Callable[[], str], metrics: Callable[[], bytes]) -> None:
        self._unwell = unwell
        self._metrics = metrics
        self._runners: list[web.AppRunner] = []

    async def start(self, health_port: int, metrics_port: int, address: str = "0.0.0.0") -> None:  # noqa: S104  # asked from outside
        """Listen; port 0: not at all."""
        health, scrape = web.Application(), web.Application()
        health.router.add_get("/healthz", self._health)
        health.router.add_get("/readyz", self._ready)
        scrape.router.add_get("/metrics", self._scrape)
        for app, port in ((health, health_port), (scrape, metrics_port)):
            if port == 0:
                continue
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, address, port).start()

    async def close(self) -> None:
        """Listen no more."""
        for runner in self._runners:
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        wrong = self._unwell()
        return web.Response(text=wrong or "ok", status=503 if wrong else 200)

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _scrape(self, _: web.Request) -> web.Response:
        process = await process_text()
        return web.Response(body=self._metrics() + process, headers={"Content-Type": CONTENT_TYPE})
