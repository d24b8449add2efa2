# SPDX-License-Identifier: Apache-2.0
"""`Cluster` on the official client: raw JSON, every status looked at here."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from agentpool_core.cluster import FIELD_MANAGER
from agentpool_operator.kube.kinds import PODS, Conflict, Gone, Kind, KubeError, Object, Refused, Retry

REQUEST_SECONDS = 4.0
"""Bound of each request of a leader: with its margin, a write ends before another leader can begin."""
PAGE = 500
"""Objects of one answer to a list."""

TOKEN_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105  # a path
_JSON = "application/json"
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_APPLY = "application/apply-patch+yaml"


async def connect() -> ApiClient:
    """A client for the cluster that the process runs in, else for the one of KUBECONFIG."""
    configuration = Configuration()
    if await asyncio.to_thread(Path(TOKEN_FILE).exists):
        config.load_incluster_config(client_configuration=configuration)
    else:
        # The client looks at KUBECONFIG when it is imported, which may be too early.
        await config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    client = ApiClient(configuration)
    client.user_agent = "agentpool-operator"
    return client


def path_of(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """The path of an object, or of a kind's list (all namespaces when there is none)."""
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    parts = [root, *(["namespaces", quote(namespace, safe="")] if namespace else []), kind.plural]
    return "/".join([*parts, *(quote(part, safe="") for part in (name, subresource) if part)])


class KubeClient:
    """See `kinds.Cluster`.

    Args:
        guard: called before each write; raises NotLeader.
        observe: told of each call: verb, kind, result, seconds.
        seconds: bound of each request.
    """

    def __init__(
        self,
        api: ApiClient,
        guard: Callable[[], None] = lambda: None,
        observe: Callable[[str, str, str, float], None] = lambda *_: None,
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._api = api
        self._guard = guard
        self._observe = observe
        self._seconds = seconds

    def guarded(self, guard: Callable[[], None]) -> KubeClient:
        """The same connection, with another guard."""
        return KubeClient(self._api, guard, self._observe, self._seconds)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """See Cluster."""
        try:
            return await self._call("get", kind, "GET", path_of(kind, namespace, name))
        except Gone:
            return None

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        """See Cluster."""
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._call("list", kind, "GET", path_of(kind, namespace), query)
            found.extend(page.get("items") or ())
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return found
            query["continue"] = following

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """See Cluster."""
        self._guard()
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("create", kind, "POST", path_of(kind, namespace), query, _typed(kind, body))

    async def apply(
        self, kind: Kind, namespace: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """See Cluster."""
        self._guard()
        path = path_of(kind, namespace, body["metadata"]["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call("apply", kind, "PATCH", path, query, _typed(kind, body), _APPLY)

    async def merge(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """See Cluster."""
        self._guard()
        path = path_of(kind, namespace, name, subresource)
        return await self._call("patch", kind, "PATCH", path, {"fieldManager": FIELD_MANAGER}, body, _MERGE)

    async def resize(self, namespace: str, pod: str, container: str, resources: Mapping[str, Any]) -> None:
        """See Cluster."""
        self._guard()
        body = {"spec": {"containers": [{"name": container, "resources": resources}]}}
        path = path_of(PODS, namespace, pod, "resize")
        await self._call("patch", PODS, "PATCH", path, {"fieldManager": FIELD_MANAGER}, body, _STRATEGIC)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """See Cluster."""
        self._guard()
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("delete", kind, "DELETE", path_of(kind, namespace, name), body=options)
        except (Gone, Conflict):
            return

    async def replace(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """PUT; raises Conflict when the body's resourceVersion is not the present one."""
        self._guard()
        path = path_of(kind, namespace, body["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("update", kind, "PUT", path, query, _typed(kind, body))

    async def close(self) -> None:
        """Drop connections."""
        await self._api.close()

    async def _call(self, verb: str, kind: Kind, *request: Any, **more: Any) -> Object:
        began, result = time.monotonic(), "ok"
        try:
            return await self._request(*request, **more)
        except KubeError as exc:
            result = type(exc).__name__.lower()
            raise
        finally:
            self._observe(verb, kind.plural, result, time.monotonic() - began)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
    ) -> Object:
        headers = {"Accept": _JSON, "Content-Type": content_type}
        try:
            async with asyncio.timeout(self._seconds):
                _, url, headers, _, _ = await self._api.param_serialize(
                    method, path, header_params=headers, auth_settings=["BearerToken"]
                )
                url += f"?{urlencode(query)}" if query else ""
                response = await self._api.call_api(method, url, headers, body)
                text = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            raise Retry(0, "NoAnswer", f"{method} {path}: {type(exc).__name__}") from exc
        if 200 <= response.status < 300:
            return cast("Object", json.loads(text))
        raise _error(response.status, text, f"{method} {path}")


def _typed(kind: Kind, body: Mapping[str, Any]) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body}


def _error(status: int, text: bytes, call: str) -> KubeError:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    reason = str(answer.get("reason") or "Unknown") if isinstance(answer, dict) else "Unknown"
    message = f"{call}: {answer.get('message', '')}" if isinstance(answer, dict) else call
    if status == 404:
        return Gone(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status in (401, 408, 429) or status >= 500:
        return Retry(status, reason, message)
    return Refused(status, reason, message)
