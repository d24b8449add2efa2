# SPDX-License-Identifier: Apache-2.0
"""An application as docs/howto/call-from-your-app.md describes one: repeats what it may, and nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from chaos.history import Attempt, End, Operation, Reply, Sent
from support.e2e import TENANT

REQUEST_SECONDS = 15.0
"""Deadline of an attempt, told to the gateway."""
SILENCE_SECONDS = 2 * REQUEST_SECONDS
PATIENCE_SECONDS = 30.0
"""So long a request is repeated."""
READ_SECONDS = 300.0
"""For what an instance has at the end: each COLD one that was left needs a pod for it, one after another."""
PAUSE_SECONDS = 0.1
"""Before an attempt is repeated that says nothing of a time; up to twice that."""
CONNECT_SECONDS = 2.0
"""A gateway that is gone does not refuse a connection while rules still lead to it."""


@dataclass
class Application:
    """Sends requests through the gateways' Service.

    Attributes:
        patience_seconds: 0: nothing is repeated.
    """

    url: str
    path: str
    token: str = field(repr=False)
    patience_seconds: float
    seed: int
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=SILENCE_SECONDS, sock_connect=CONNECT_SECONDS)
        headers = {"authorization": f"Bearer {self.token}", "x-request-timeout": f"{REQUEST_SECONDS:g}"}
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(self.url, timeout=timeout, headers=headers, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def carry_out(self, sent: Sent) -> None:
        """Send a request until it has an end, and write down what happened."""
        rng = random.Random(self.seed * 1_000_003 + sent.number)
        until = sent.due + self.patience_seconds
        while sent.end is None:
            attempt, pause = await self._attempt(sent)
            sent.attempts.append(attempt)
            pause = pause or PAUSE_SECONDS * (1 + rng.random())
            sent.end = end_of(sent.operation, attempt.reply, last=attempt.ended + pause > until)
            if sent.end is None:
                await asyncio.sleep(pause)

    async def _attempt(self, sent: Sent) -> tuple[Attempt, float]:
        began = time.monotonic()
        try:
            status, body = await self._send(sent)
        except aiohttp.ClientConnectorError as exc:
            return Attempt(began, time.monotonic(), Reply.NOT_SENT, type(exc).__name__), 0.0
        except aiohttp.ConnectionTimeoutError:
            return Attempt(began, time.monotonic(), Reply.NOT_SENT, "ConnectionTimeout"), 0.0
        except TimeoutError:
            return Attempt(began, time.monotonic(), Reply.SILENT, "Silence"), 0.0
        except (aiohttp.ClientError, ConnectionError) as exc:
            end = time.monotonic()
            return Attempt(began, end, Reply.UNKNOWN, type(exc).__name__, broken=True), 0.0
        ended = time.monotonic()
        if status == 200:
            return Attempt(began, ended, Reply.ANSWERED, pod=body["pod"]), 0.0
        attempt = Attempt(began, ended, reply_of(body), body["code"], detail=body["detail"])
        return attempt, body.get("retry_after_seconds") or 0.0

    async def _send(self, sent: Sent) -> tuple[int, Mapping[str, Any]]:
        assert self._session is not None
        given: Any = {"add": sent.number, "seconds": sent.takes_seconds}
        given = "count" if sent.operation is Operation.READ else given
        given = {"work": sent.takes_seconds} if sent.operation is Operation.WORK else given
        keyed = sent.operation is Operation.ADD_WITH_KEY
        headers = {"idempotency-key": f"{self.seed}-{sent.number}"} if keyed else {}
        body = {"tenant_id": TENANT, "project_id": sent.project, "tier": sent.tier, "input": given}
        async with self._session.post(f"{self.path}/invoke", json=body, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())

    async def all_of(self, project: str, tier: str) -> list[int]:
        """What an instance has written down."""
        assert self._session is not None
        body = {"tenant_id": TENANT, "project_id": project, "tier": tier, "input": "all"}
        deadline = time.monotonic() + READ_SECONDS
        while True:
            async with self._session.post(f"{self.path}/invoke", json=body) as answer:
                told = json.loads(await answer.read())
                if answer.status == 200:
                    found: list[int] = told["output"]
                    return found
            if time.monotonic() > deadline:
                raise RuntimeError(f"{project} does not tell what it has: {told}")
            await asyncio.sleep(0.5)


def reply_of(problem: Mapping[str, Any]) -> Reply:
    """What a problem document says of an attempt."""
    if problem["code"] == "OutcomeUnknown" or problem.get("details", {}).get("outcome") == "unknown":
        return Reply.UNKNOWN
    return Reply.RETRYABLE if problem["retryable"] else Reply.FAILED


def end_of(operation: Operation, reply: Reply, last: bool) -> End | None:
    """The end of a request after an attempt; None: it is to be sent again.

    An unknown outcome is repeated when a repetition changes nothing, or nothing twice.
    """
    match reply:
        case Reply.ANSWERED:
            return End.ANSWERED
        case Reply.FAILED:
            return End.FAILED
        case Reply.SILENT:
            return End.LOST
        case Reply.UNKNOWN:
            return End.UNKNOWN if last or operation is Operation.ADD else None
    return End.REFUSED if last else None
