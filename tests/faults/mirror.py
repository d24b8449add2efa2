# SPDX-License-Identifier: Apache-2.0
"""What a namespace of the API server holds, as watches tell it: reading it costs the server nothing.

What is written through it shows at once, as it would to a client that reads from the server.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from agentpool_operator.kube.client import KubeClient, path_of
from agentpool_operator.kube.kinds import Kind, Object
from support.apiserver import TOKEN, ApiServer

LINE_BYTES = 2**22
AGAIN_SECONDS = 0.2
SYNC_SECONDS = 30.0


class Objects:
    """The objects themselves: pure. Of two versions the newer one counts, whichever came first."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._found: dict[str, dict[str, Object]] = {kind.plural: {} for kind in kinds}
        self._gone: set[str] = set()

    def put(self, kind: Kind, body: Object) -> None:
        """An object is there, or was when this was sent."""
        metadata = body["metadata"]
        present = self._found[kind.plural].get(metadata["name"])
        if metadata["uid"] in self._gone or (present is not None and _newer(present, body)):
            return
        self._found[kind.plural][metadata["name"]] = body

    def drop(self, kind: Kind, name: str, uid: str) -> None:
        """An object is there no more; one of a kind that is not mirrored makes no difference."""
        self._gone.add(uid)
        present = self._found.get(kind.plural, {}).get(name)
        if present is not None and present["metadata"]["uid"] == uid:
            del self._found[kind.plural][name]

    def replace(self, kind: Kind, bodies: Sequence[Object]) -> None:
        """A whole list came."""
        present = {body["metadata"]["uid"] for body in bodies}
        for body in list(self._found[kind.plural].values()):
            if body["metadata"]["uid"] not in present:
                self.drop(kind, body["metadata"]["name"], body["metadata"]["uid"])
        for body in bodies:
            self.put(kind, body)

    def list(self, kind: Kind) -> list[Object]:
        """All of a kind; not to be changed."""
        return list(self._found[kind.plural].values())

    def get(self, kind: Kind, name: str) -> Object | None:
        """One of them."""
        return self._found[kind.plural].get(name)


def _newer(one: Object, other: Object) -> bool:
    """Whether the first of two bodies under one name is not to give way to the second."""
    return int(one["metadata"]["resourceVersion"]) >= int(other["metadata"]["resourceVersion"])


class Mirror:
    """See the module; `open_mirror` makes one. The calls are those of `KubeClient`, for one namespace."""

    def __init__(self, client: KubeClient, namespace: str, kinds: Sequence[Kind]) -> None:
        self._client = client
        self.namespace = namespace
        self._kinds = kinds
        self.objects = Objects(kinds)

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        """From memory, with equality selectors."""
        wanted = dict(one.split("=", 1) for one in selector.split(",") if one)
        return [body for body in self.objects.list(kind) if wanted.items() <= _labels(body).items()]

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """From memory."""
        return self.objects.get(kind, name)

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """As KubeClient."""
        made = await self._client.create(kind, namespace, body)
        self.objects.put(kind, made)
        return made

    async def apply(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """As KubeClient."""
        applied = await self._client.apply(kind, namespace, body)
        self.objects.put(kind, applied)
        return applied

    async def replace(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """As KubeClient."""
        replaced = await self._client.replace(kind, namespace, body)
        self.objects.put(kind, replaced)
        return replaced

    async def merge(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """As KubeClient."""
        merged = await self._client.merge(kind, namespace, name, body, subresource)
        self.objects.put(kind, merged)
        return merged

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """As KubeClient; for objects that are gone at once."""
        await self._client.delete(kind, namespace, name, uid)
        self.objects.drop(kind, name, uid)

    # Watches

    async def follow(self, session: aiohttp.ClientSession, kind: Kind, synced: asyncio.Event) -> None:
        """List and watch a kind, for ever."""
        while True:
            try:
                await self._follow(session, kind, synced)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self, session: aiohttp.ClientSession, kind: Kind, synced: asyncio.Event) -> None:
        path = path_of(kind, self.namespace)
        async with session.get(path, raise_for_status=True) as answer:
            listed = await answer.json()
        self.objects.replace(kind, listed["items"])
        synced.set()
        query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with session.get(path, params=query, raise_for_status=True) as answer:
            async for line in answer.content:
                event = json.loads(line)
                body = event["object"]
                if event["type"] == "ERROR":
                    return
                if event["type"] == "DELETED":
                    self.objects.drop(kind, body["metadata"]["name"], body["metadata"]["uid"])
                else:
                    self.objects.put(kind, body)


def _labels(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


@asynccontextmanager
async def open_session(api: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for watches with an administrator's rights, past every fault proxy."""
    trust = ssl.create_default_context(cafile=str(api.kubeconfig.parent / "apiserver.crt"))
    async with aiohttp.ClientSession(
        api.url,
        connector=aiohttp.TCPConnector(ssl=trust, limit=0),
        headers={"authorization": f"Bearer {TOKEN}"},
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=LINE_BYTES,
    ) as session:
        yield session


@asynccontextmanager
async def open_mirror(
    api: ApiServer, client: KubeClient, namespace: str, kinds: Sequence[Kind]
) -> AsyncIterator[Mirror]:
    """A mirror that knows everything; it ends with the block."""
    mirror = Mirror(client, namespace, kinds)
    synced = [asyncio.Event() for _ in kinds]
    async with open_session(api) as session:
        tasks = [
            asyncio.create_task(mirror.follow(session, kind, one))
            for kind, one in zip(kinds, synced, strict=True)
        ]
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                for one in synced:
                    await one.wait()
            yield mirror
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
