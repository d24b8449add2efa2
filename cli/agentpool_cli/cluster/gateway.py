# SPDX-License-Identifier: Apache-2.0
"""The gateway of a cluster: where it is, a way to it, and a token for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agentpool_cli.cluster.kubectl import Kubectl
from agentpool_core.cluster import AUDIENCE, LABEL_COMPONENT, LABEL_NAME
from agentpool_core.errors import InvalidRequest, NotFound, PermissionDenied

GATEWAY = f"{LABEL_NAME}=agentpool,{LABEL_COMPONENT}=gateway"
HTTP_PORT = "http"
TOKEN_SECONDS = 600
"""Lifetime that a token is asked for with: the shortest that Kubernetes gives."""


@contextmanager
def way_to_gateway(kubectl: Kubectl, named: str | None) -> Iterator[str]:
    """The URL of the cluster's gateway, by a port-forward that lasts as long as the block.

    Args:
        named: `namespace/service`; None looks for the one there is.
    """
    namespace, service = split_name(named, "--gateway") if named else find_gateway(kubectl)
    with kubectl.forwarded(namespace, service, HTTP_PORT) as port:
        yield f"http://127.0.0.1:{port}"


def find_gateway(kubectl: Kubectl) -> tuple[str, str]:
    """Namespace and name of the gateway's service, by its labels."""
    try:
        found = kubectl.items("services", "--all-namespaces", "--selector", GATEWAY)
    except PermissionDenied as exc:
        raise PermissionDenied(
            "You may not look for the gateway in all namespaces.",
            remedy="Name it with --gateway NAMESPACE/SERVICE, or its address with --url or AGENTPOOL_URL.",
        ) from exc
    return one_gateway(found)


def one_gateway(services: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Namespace and name of the only service; NotFound or InvalidRequest when there is not exactly one."""
    names = [(str(one["metadata"]["namespace"]), str(one["metadata"]["name"])) for one in services]
    if not names:
        raise NotFound(
            "The cluster has no gateway of AgentPool.",
            remedy="Install the chart, or name the gateway with --gateway NAMESPACE/SERVICE.",
        )
    if len(names) > 1:
        listed = ", ".join("/".join(name) for name in names)
        raise InvalidRequest(
            f"The cluster has several gateways: {listed}.",
            remedy="Name one with --gateway NAMESPACE/SERVICE.",
        )
    return names[0]


def account_token(kubectl: Kubectl, account: str, namespace: str | None) -> str:
    """A short-lived token of a ServiceAccount for the gateway.

    Args:
        account: its name, or `namespace/name`.
        namespace: where it is when its name does not say so; None: the context's own.
    """
    if "/" in account:
        namespace, account = split_name(account, "--as-service-account")
    where = ["--namespace", namespace] if namespace else []
    duration = f"--duration={TOKEN_SECONDS}s"
    return kubectl.text(*where, "create", "token", account, f"--audience={AUDIENCE}", duration).strip()


def current_namespace(kubectl: Kubectl) -> str:
    """The namespace of kubectl's context."""
    found = kubectl.text("config", "view", "--minify", "--output", "jsonpath={..namespace}").strip()
    return found or "default"


def split_name(text: str, option: str) -> tuple[str, str]:
    """`namespace/name` in two; InvalidRequest."""
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise InvalidRequest(f"{text!r} is not NAMESPACE/NAME.", remedy=f"Correct {option}.")
    return namespace, name
