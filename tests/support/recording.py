# SPDX-License-Identifier: Apache-2.0
"""Every state that an API server gave objects of a kind, in order: a watch of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import yaml

from support.apiserver import TOKEN, ApiServer

Object = dict[str, Any]
WATCH_SECONDS = 600.0
"""Of silence; longer than any test."""


@asynccontextmanager
async def recorded(api: ApiServer, *paths: str) -> AsyncIterator[list[Object]]:
    """The states of all objects of some collections while the block runs; the list grows."""
    kubeconfig = yaml.safe_load(await asyncio.to_thread(api.kubeconfig.read_text))
    trust = ssl.create_default_context(cafile=kubeconfig["clusters"][0]["cluster"]["certificate-authority"])
    headers = {"authorization": f"Bearer {TOKEN}"}
    found: list[Object] = []
    async with httpx.AsyncClient(
        base_url=api.url, verify=trust, headers=headers, timeout=WATCH_SECONDS, trust_env=False
    ) as client:
        tasks = [asyncio.create_task(_watch(client, path, found)) for path in paths]
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
                    await task


async def _watch(client: httpx.AsyncClient, path: str, found: list[Object]) -> None:
    async with client.stream("GET", path, params={"watch": "true"}) as answer:
        async for line in answer.aiter_lines():
            event = json.loads(line)
            if event.get("type") in ("ADDED", "MODIFIED"):
                found.append(event["object"])
