# SPDX-License-Identifier: Apache-2.0
"""Open-loop traffic against gateways, and what its senders saw: answers, refusals, gaps."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Seen:
    """What became of one project's requests.

    Attributes:
        answered: loop times of answers, in the order in which they came.
        outputs: what was answered.
        refused: codes of refusals.
        without_retry_after: codes of retryable refusals that did not say when to come back.
    """

    answered: list[float] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    without_retry_after: Counter[str] = field(default_factory=Counter)

    @property
    def gap(self) -> float:
        """The longest time without an answer, seconds, between the first and the last."""
        return max((late - early for early, late in itertools.pairwise(self.answered)), default=0.0)


def report(text: str) -> None:
    """Show a measured number to who runs the tests with -s."""
    sys.stderr.write(text + "\n")


@dataclass
class Traffic:
    """Requests that go out at a fixed rate, whatever comes back.

    Attributes:
        urls: of gateways; each connection error is repeated at the next one, as a client of a Service would.
    """

    urls: Sequence[str]
    body: Any = "add"
    more: Mapping[str, Any] = field(default_factory=dict)
    keyed: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = "/api/v1/pool/invoke"
    seen: dict[str, Seen] = field(default_factory=dict)
    connection_errors: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _sent: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def refused(self) -> Counter[str]:
        """Codes of all refusals."""
        return sum((one.refused for one in self.seen.values()), Counter())

    @property
    def gap(self) -> float:
        """The longest gap of any project."""
        return max(one.gap for one in self.seen.values())

    async def send(self, client: httpx.AsyncClient, project: str) -> None:
        """One request, until it is answered or refused."""
        number = next(self._numbers)
        headers = {**self.headers, **({"idempotency-key": f"request-{number}"} if self.keyed else {})}
        envelope = {"tenant_id": "acme", "project_id": project, "input": self.body, **self.more}
        seen = self.seen.setdefault(project, Seen())
        for attempt in range(20):
            url = self.urls[(number + attempt) % len(self.urls)] + self.path
            try:
                response = await client.post(url, json=envelope, headers=headers)
            except httpx.TransportError:
                self.connection_errors += 1
                await asyncio.sleep(0.05)
                continue
            self._note(seen, response)
            return
        seen.refused["NoConnection"] += 1

    def _note(self, seen: Seen, response: httpx.Response) -> None:
        document = response.json()
        if response.status_code == 200:
            seen.answered.append(asyncio.get_running_loop().time())
            seen.outputs.append(document["output"])
            return
        seen.refused[document["code"]] += 1
        if document["retryable"] and "retry-after" not in response.headers:
            seen.without_retry_after[document["code"]] += 1

    @asynccontextmanager
    async def running(self, projects: Sequence[str], period: float) -> AsyncIterator[Traffic]:
        """Send each project a request every `period` seconds within the block; at its end every answer has
        come."""
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=100)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            sender = asyncio.create_task(self._send_all(client, projects, period))
            try:
                yield self
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
                await asyncio.gather(*self._sent)

    async def _send_all(self, client: httpx.AsyncClient, projects: Sequence[str], period: float) -> None:
        for project in itertools.cycle(projects):
            task = asyncio.create_task(self.send(client, project))
            self._sent.add(task)
            task.add_done_callback(self._sent.discard)
            await asyncio.sleep(period / len(projects))
