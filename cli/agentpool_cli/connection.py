# SPDX-License-Identifier: Apache-2.0
"""Which gateway to call, for which pool, as whom: options and environment, put together and checked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from agentpool_cli.arguments import DEFAULT_URL
from agentpool_core.errors import InvalidRequest

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where requests go.

    Attributes:
        url: address of the gateway, without a slash at the end.
        pool_path: path of the pool under it.
        timeout_seconds: deadline of one request.
        token: bearer token, or empty.
    """

    url: str
    pool_path: str
    timeout_seconds: float
    token: str = field(default="", repr=False)


def connection_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Connection:
    """The connection that options and environment describe. Raises InvalidRequest."""
    url = (options.url or environ.get("AGENTPOOL_URL") or DEFAULT_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest(f"{url!r} is not a URL.", remedy="Give --url as http://HOST:PORT.")
    return Connection(
        url=url,
        pool_path=pool_path(options.namespace, options.pool),
        timeout_seconds=options.timeout,
        token=read_token(options.token_file, environ),
    )


def pool_path(namespace: str | None, pool: str | None) -> str:
    """The REST path of a pool; of the gateway's default pool when none is named."""
    if pool is None:
        if namespace is not None:
            raise InvalidRequest("A namespace alone names no pool.", remedy="Give --pool as well.")
        return "/api/v1/pool"
    within = quote(namespace or DEFAULT_NAMESPACE, safe="")
    return f"/api/v1/namespaces/{within}/pools/{quote(pool, safe='')}"


def read_token(file: str | None, environ: Mapping[str, str]) -> str:
    """The bearer token from a file or the environment; empty when there is none."""
    path = file or (None if environ.get("AGENTPOOL_TOKEN") else environ.get("AGENTPOOL_TOKEN_FILE"))
    if path is None:
        return environ.get("AGENTPOOL_TOKEN", "").strip()
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise InvalidRequest(
            f"The token file {path} cannot be read: {exc.strerror}.", remedy="Correct --token-file."
        ) from exc
    if not token:
        raise InvalidRequest(f"The token file {path} is empty.", remedy="Write the token into it.")
    return token
