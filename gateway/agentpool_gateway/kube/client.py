# SPDX-License-Identifier: Apache-2.0
"""Calls of the Kubernetes API: raw JSON, every status looked at here, every call bounded in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTResponse

from agentpool_gateway.settings import KubernetesSettings

REQUEST_SECONDS = 5.0
CONNECT_SECONDS = 5.0
PAGE = 500
"""Objects of one answer to a list."""
MAX_BYTES = 1024 * 1024
"""Of a document that is not a list."""
TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

Object = dict[str, Any]


class KubeError(Exception):
    """The API server did not do what it was asked.

    Attributes:
        status: HTTP status; 0 when no answer came.
        reason: the server's machine-readable reason.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason

    @property
    def remedy(self) -> str:
        """What the administrator can do about it; empty when waiting is all."""
        if self.status == 403:
            return "Give the gateway's ServiceAccount the rights of the chart's gateway role."
        if self.status == 404:
            return "Install the CustomResourceDefinitions of the chart (crds.enabled)."
        return ""


class KubeApi:
    """One API server, as one user."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON) -> Object:
        """One JSON document."""
        return _document(await self._bounded("GET", path, query, accept=accept))

    async def get_bytes(self, path: str, accept: str = JSON) -> bytes:
        """One document, undecoded."""
        body = await self._bounded("GET", path, accept=accept)
        if len(body) > MAX_BYTES:
            raise KubeError(0, "TooLarge", f"{path} has {len(body)} bytes")
        return body

    async def post(self, path: str, body: Mapping[str, Any]) -> Object:
        """Make an object, and have the server's answer."""
        return _document(await self._bounded("POST", path, body=body))

    async def list(self, path: str, selector: str = "", accept: str = JSON) -> tuple[list[Object], str]:
        """All objects of a collection as they are now, from no stale cache, and the list's version."""
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self.get(path, query, accept)
            found.extend(page.get("items") or ())
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion") or "")
            query["continue"] = metadata["continue"]

    @asynccontextmanager
    async def watch(
        self, path: str, selector: str, version: str, seconds: int, silent_seconds: float
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """The events of a collection since `version`; the server ends them after `seconds`.

        KubeError when nothing at all, not even a bookmark, came for `silent_seconds`.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"timeoutSeconds": str(seconds)} | ({"labelSelector": selector} if selector else {})
        limits = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silent_seconds
        )
        try:
            response = await self._open("GET", path, query, limits=limits)
            async with response.response as stream:
                if stream.status != 200:
                    raise _error(stream.status, await stream.read(), f"watch {path}")
                yield _lines(stream)
        except (aiohttp.ClientError, OSError) as exc:
            raise KubeError(0, "NoAnswer", f"watch {path}: {type(exc).__name__}") from exc

    async def close(self) -> None:
        """Drop connections."""
        await self._client.close()

    async def _bounded(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = JSON,
    ) -> bytes:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self._open(method, path, query, body, accept)
                text = cast("bytes", await response.read())
        except (TimeoutError, aiohttp.ClientError, OSError) as exc:
            raise KubeError(0, "NoAnswer", f"{method} {path}: {type(exc).__name__}") from exc
        if not 200 <= response.status < 300:
            raise _error(response.status, text, f"{method} {path}")
        return text

    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = JSON,
        limits: aiohttp.ClientTimeout | None = None,
    ) -> RESTResponse:
        headers = {"Accept": accept, "Content-Type": JSON}
        _, url, headers, _, _ = await self._client.param_serialize(
            method, path, header_params=headers, auth_settings=["BearerToken"]
        )
        url += f"?{urlencode(query)}" if query else ""
        return await self._client.call_api(method, url, headers, body, _request_timeout=limits)


async def connect(settings: KubernetesSettings) -> KubeApi:
    """The cluster that the process runs in, or the one of a kubeconfig. OSError when neither can be read."""
    configuration = Configuration()
    try:
        if settings.kubeconfig is None and await asyncio.to_thread(TOKEN_FILE.exists):
            config.load_incluster_config(client_configuration=configuration)
        else:
            path = str(settings.kubeconfig) if settings.kubeconfig else None
            await config.load_kube_config(path, settings.context, configuration, persist_config=False)
    except config.ConfigException as exc:
        raise OSError(f"no Kubernetes cluster to connect to: {exc}") from exc
    client = ApiClient(configuration)
    client.user_agent = "agentpool-gateway"
    return KubeApi(client)


async def _lines(stream: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    while line := await stream.content.readline():
        yield _document(line)


def _document(text: bytes) -> Object:
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise KubeError(0, "NotJson", "the answer is not JSON") from exc
    if not isinstance(found, dict):
        raise KubeError(0, "NotJson", "the answer is not an object")
    return found


def _error(status: int, text: bytes, call: str) -> KubeError:
    try:
        answer = _document(text)
    except KubeError:
        answer = {}
    return KubeError(status, str(answer.get("reason") or "Unknown"), f"{call}: {answer.get('message', '')}")
