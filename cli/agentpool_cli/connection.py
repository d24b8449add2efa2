# SPDX-License-Identifier: Apache-2.0
"""Which gateway to call, for which pool, as whom: options and environment, put together and checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
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


def uses_cluster(options: argparse.Namespace, environ: Mapping[str, str]) -> bool:
    """Whether the gateway is to be looked for in a cluster."""
    if options.url or environ.get("AGENTPOOL_URL"):
        return False
    return bool(options.plugin or options.context or options.kubeconfig or options.gateway)


def kubectl_flags(options: argparse.Namespace) -> tuple[str, ...]:
    """The options that choose kubectl's cluster."""
    chosen = (("--context", options.context), ("--kubeconfig", options.kubeconfig))
    return tuple(f"{name}={value}" for name, value in chosen if value)


@contextmanager
def connected(options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Connection]:
    """The connection, with a way into the cluster and a token from it where they are needed."""
    through_cluster = uses_cluster(options, environ)
    if not through_cluster and not options.as_service_account:
        yield connection_from(options, environ)
        return
    # Needs processes and patterns that calls of a named gateway need not load.
    from agentpool_cli.cluster.gateway import account_token, current_namespace, way_to_gateway
    from agentpool_cli.cluster.kubectl import Kubectl

    kubectl = Kubectl(kubectl_flags(options))
    if options.pool and not options.namespace:
        options.namespace = current_namespace(kubectl)
    with ExitStack() as stack:
        if through_cluster:
            options.url = stack.enter_context(way_to_gateway(kubectl, options.gateway))
        connection = connection_from(options, environ)
        if options.as_service_account:
            token = account_token(kubectl, options.as_service_account, options.namespace)
            connection = replace(connection, token=token)
        yield connection


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
