# SPDX-License-Identifier: Apache-2.0
"""The gateway's process: start, serve, stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import structlog
import uvicorn

from agentpool_core.overload import AdaptiveLimit
from agentpool_core.shares import Shares
from agentpool_gateway.admission.cluster import ClusterIssuer
from agentpool_gateway.admission.gate import make_gate
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.dispatch.pools import Pools
from agentpool_gateway.membership.base import Membership, PoolName
from agentpool_gateway.membership.static import StaticMembership
from agentpool_gateway.membership.watcher import Fleet
from agentpool_gateway.metrics import Interface, Metrics
from agentpool_gateway.rest.app import RestApp
from agentpool_gateway.rest.handlers import Handlers
from agentpool_gateway.rpc.server import RpcServer
from agentpool_gateway.settings import (
    AuthMode,
    KubernetesSettings,
    Settings,
    SettingsError,
    load_settings,
    split_address,
)
from agentpool_rpc.leases import LeaseIds
from agentpool_rpc.logs import configure_logs
from agentpool_rpc.tokens import TokenSigner
from agentpool_rpc.tracing import Tracing, tracing_of
from agentpool_rpc.yielding import yielding

if TYPE_CHECKING:
    from agentpool_gateway.kube.cluster import Cluster

log = structlog.get_logger(__name__)

USAGE_ERROR = 2
START_ERROR = 1
BACKLOG = 1024
LAST_WORDS_SECONDS = 1.0
"""After the grace time, for streams to send their last event and close."""
HEALTH_SECONDS = 0.2
MAX_IMPORTS = 4
"""Archives that are held in memory at one time, however they come."""
RPC_CALLS = 2
"""gRPC calls of whatever kind are refused from this many times the requests in flight on: a last resort."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gateway until SIGTERM or SIGINT; the process's exit code."""
    try:
        settings = load_settings(sys.argv[1:] if argv is None else argv, os.environ)
        key = settings.call_token_key_file.read_bytes()
        signer = TokenSigner(key, issuer="gateway", clock=time.time)
        lease_ids = LeaseIds(key, clock=time.time) if settings.direct_access else None
    except (SettingsError, OSError, ValueError) as exc:
        print(f"agentpool-gateway: {exc}", file=sys.stderr)  # noqa: T201  # before there is a log
        return USAGE_ERROR
    configure_logs("gateway", settings.log_level, settings.log_pretty)
    # Start-up objects are never garbage; the collector need not walk them on the request path.
    gc.collect()
    gc.freeze()
    try:
        tracing = tracing_of(os.environ, "agentpool-gateway", _pod())
        asyncio.run(Gateway(settings, signer, lease_ids, tracing).run())
    except OSError as exc:
        log.error("gateway_not_started", reason=str(exc))
        return START_ERROR
    return 0


class Gateway:
    """One gateway process.

    Args:
        tracing: makes spans of requests; None: traces are off.
    """

    def __init__(
        self,
        settings: Settings,
        signer: TokenSigner,
        lease_ids: LeaseIds | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        random = Random()  # noqa: S311  # jitter, not a secret
        self._cluster, membership = _membership(settings, random)
        self._issuer: ClusterIssuer | None = None
        if self._cluster is not None and settings.auth.cluster_issuer:
            self._issuer = ClusterIssuer(
                settings.auth.audience, self._cluster.issuer, self._cluster.keys, time.monotonic, random
            )
        self._fleet = Fleet(membership, signer, random)
        pending = AdaptiveLimit(settings.min_pending, settings.max_pending, settings.target_delay_seconds)
        self._overload = Overload(pending, Shares(settings.max_in_flight))
        self._metrics = Metrics(self._fleet, settings.instance_series, self._overload, self._dropped)
        default = PoolName(*settings.default_pool.split("/")) if settings.default_pool else None
        pools = Pools(self._fleet, self._metrics, default, self._overload, lease_ids)
        self._gate = make_gate(settings.auth, pools, time.time, time.monotonic, self._cluster, self._issuer)
        self._imports = Shares(MAX_IMPORTS)
        self._stop = asyncio.Event()
        self._grace_over = asyncio.Event()

    @property
    def _ready(self) -> bool:
        known = self._issuer is None or self._issuer.known
        return self._fleet.ready and known and not self._stop.is_set()

    async def run(self) -> None:
        """Serve until a signal, then let requests in flight end. OSError when an address is taken."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        insecure = settings.auth.mode is AuthMode.INSECURE
        if insecure:
            log.warning("auth_is_off", remedy="Use auth.mode jwt for anything but a trial on one machine.")
        rest = RestApp(
            Handlers(self._gate, self._metrics, self._grace_over, self._imports, self._tracing),
            lambda: self._ready,
            local_pages_only=insecure,
            refused=partial(self._metrics.refused, Interface.REST),
            overload=self._overload,
        )
        listener = _listen(settings.http_listen)
        http = _HttpServer(_http_config(rest))
        refused = partial(self._metrics.refused, Interface.GRPC)
        most = RPC_CALLS * settings.max_in_flight
        rpc = RpcServer(self._gate, refused, self._imports, self._overload, most, self._tracing)
        rpc_port = rpc.bind(settings.grpc_listen)
        watching = await self._watch()
        serving = asyncio.create_task(http.serve([listener]), name="http")
        await rpc.show_health(False)
        await rpc.start()
        log.info("gateway_started", http=_shown(listener), grpc_port=rpc_port)
        giving_way = asyncio.create_task(yielding(), name="yielding")
        try:
            await self._serve(rpc, [*watching, serving])
            await self._shut_down(http, rpc, serving)
        finally:
            for task in (*watching, giving_way):
                task.cancel()
            await asyncio.gather(*watching, giving_way, return_exceptions=True)
            if self._cluster is not None:
                await self._cluster.close()
            if self._tracing is not None:
                await self._tracing.close()
        log.info("gateway_stopped")

    def _dropped(self) -> int:
        return self._tracing.dropped if self._tracing is not None else 0

    async def _watch(self) -> list[asyncio.Task[None]]:
        if self._cluster is not None:
            await self._cluster.connect()
        tasks = [asyncio.create_task(self._fleet.run(), name="fleet")]
        if self._issuer is not None:
            tasks.append(asyncio.create_task(self._issuer.run(), name="issuer"))
        return tasks

    async def _serve(self, rpc: RpcServer, tasks: list[asyncio.Task[None]]) -> None:
        shown = False
        while not self._stop.is_set():
            if self._ready != shown:
                shown = self._ready
                await rpc.show_health(shown)
            for task in tasks:
                if task.done():
                    task.result()
                    raise RuntimeError(f"{task.get_name()} ended by itself")
            with suppress(TimeoutError):
                async with asyncio.timeout(HEALTH_SECONDS):
                    await self._stop.wait()

    async def _shut_down(self, http: _HttpServer, rpc: RpcServer, serving: asyncio.Task[None]) -> None:
        delay, grace = self._settings.shutdown_delay_seconds, self._settings.shutdown_grace_seconds
        log.info("gateway_stopping", delay_seconds=delay, grace_seconds=grace)
        await rpc.show_health(False)
        await asyncio.sleep(delay)
        timer = asyncio.get_running_loop().call_later(grace, self._grace_over.set)
        http.config.timeout_graceful_shutdown = max(round(grace + LAST_WORDS_SECONDS), 1)
        http.should_exit = True
        await asyncio.gather(rpc.stop(grace), serving)
        timer.cancel()


def _membership(settings: Settings, random: Random) -> tuple[Cluster | None, Membership]:
    if settings.membership_file is not None:
        return None, StaticMembership(settings.membership_file)
    # Its client takes a second to import, which trials on one machine need not wait for.
    from agentpool_gateway.kube.cluster import Cluster

    cluster = Cluster(settings.kubernetes or KubernetesSettings(), random)
    return cluster, cluster


def _pod() -> dict[str, str]:
    # In a pod, its name.
    return {"k8s.pod.name": socket.gethostname()}


class _HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the gateway stops both servers in order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _http_config(app: RestApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise OSError(f"cannot listen on {address}: {exc.strerror}") from exc
    listener.setblocking(False)
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"
