# SPDX-License-Identifier: Apache-2.0
"""`agentpool dev`: options checked, then the session runs."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agentpool_cli.dev.layout import app_directories
from agentpool_cli.dev.ports import check_free
from agentpool_core.errors import InvalidRequest
from agentpool_core.store_address import parse_sentinel

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
"""Of one server; those behind Sentinel have schemes of their own."""


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What the user asked for, checked.

    Attributes:
        redis: URL of the Redis that keeps state, or None for memory.
        rest_port, grpc_port: ports of the gateway, free a moment ago.
    """

    manifest: Path
    redis: str | None = field(repr=False)
    rest_port: int
    grpc_port: int
    hosts: int
    app_dirs: tuple[Path, ...]
    state_dir: str | None
    reload: bool


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the pool of a manifest until Ctrl-C."""
    checked = checked_options(options)
    from agentpool_cli.dev.session import Session  # gRPC is loaded after cheap refusals

    return asyncio.run(Session(checked, environ).run())


def checked_options(options: argparse.Namespace) -> DevOptions:
    """The options of the command line. Raises InvalidRequest, or Conflict for a port in use."""
    manifest = Path(options.manifest).resolve()
    if not manifest.is_file():
        raise InvalidRequest(
            f"There is no manifest at {manifest}.", remedy="Name a file that holds one AgentPool."
        )
    if options.redis is not None:
        check_redis(options.redis)
    if options.hosts > 1 and options.redis is None:
        raise InvalidRequest(
            f"{options.hosts} hosts cannot share state in memory.",
            remedy="Give --redis URL, or run one host.",
        )
    rest_port = check_free(options.port, "--port")
    grpc_port = check_free(options.grpc_port, "--grpc-port")
    if rest_port == grpc_port:
        raise InvalidRequest(
            f"REST and gRPC cannot share port {rest_port}.", remedy="Choose another --grpc-port."
        )
    return DevOptions(
        manifest=manifest,
        redis=options.redis,
        rest_port=rest_port,
        grpc_port=grpc_port,
        hosts=options.hosts,
        app_dirs=tuple(app_directories(manifest, options.app_dir)),
        state_dir=options.state_dir,
        reload=not options.no_reload,
    )


def check_redis(url: str) -> None:
    """Raise InvalidRequest for what is no address of a Redis; the words show nothing of the URL, which may
    hold a password."""
    why = "not a URL of a Redis"
    try:
        known = url.startswith(REDIS_SCHEMES) or parse_sentinel(url) is not None
    except ValueError as exc:
        known, why = False, f"wrong: {exc}"
    if not known:
        raise InvalidRequest(
            f"--redis is {why}.",
            remedy="Give it as redis://HOST:PORT, rediss://, unix://PATH, or behind Sentinel as"
            " redis+sentinel://HOST:PORT,HOST:PORT/SERVICE.",
        )
