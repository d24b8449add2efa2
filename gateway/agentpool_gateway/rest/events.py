# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: a request whose answer comes in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from agentpool_core.errors import AgentPoolError, Unavailable
from agentpool_gateway.admission.audit import HungUp
from agentpool_gateway.dispatch.call import Ended, InvokeProgress, Part, Started
from agentpool_gateway.rest.exchange import Exchange
from agentpool_gateway.rest.problems import problem_of
from agentpool_gateway.rest.schemas import accepted_view, invoke_answer

PING_SECONDS = 15.0
"""Proxies close connections that are silent for 30 to 60 s."""
PING = b": ping\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class SlowReader(HungUp):
    """The client did not read its events in time; the connection is closed without an end."""


def frame(name: str, data: bytes) -> bytes:
    """One event. JSON text over several lines stays valid: its line breaks are white space."""
    lines = data.splitlines() or [b""]
    return b"event: " + name.encode() + b"\n" + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def render(event: InvokeProgress) -> bytes:
    """An event of a request as the client gets it."""
    if isinstance(event, Started):
        return frame("accepted", msgspec.json.encode(accepted_view(event)))
    if isinstance(event, Part):
        return frame("chunk", event.data)
    return frame("done", msgspec.json.encode(invoke_answer(event)))


async def stream_events(
    exchange: Exchange,
    events: AsyncGenerator[InvokeProgress, None],
    stopping: asyncio.Event,
    seconds: float,
) -> None:
    """Send the events of a request as they come.

    An error before `accepted` is raised, to become an ordinary answer; a later one is the event `error`.
    The stream ends with an error, too, when the gateway stops or the client reads too slowly for
    `seconds`.
    """
    first = await anext(events)
    await exchange.start(200, list(_HEADERS))
    pings = asyncio.create_task(_pings(exchange, stopping), name="pings")
    reader = asyncio.create_task(_forward(exchange, first, events), name="events")
    try:
        async with asyncio.timeout(seconds):
            await asyncio.wait([reader, pings], return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as exc:
        # Nothing more can be sent: what was sent last still waits for the client to read.
        raise SlowReader from exc
    finally:
        tasks = [reader, pings]
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    await _finish(exchange, results[0], stopping)


async def _forward(
    exchange: Exchange, first: InvokeProgress, events: AsyncGenerator[InvokeProgress, None]
) -> None:
    await exchange.send_part(render(first))
    async for event in events:
        await exchange.send_part(render(event))
        if type(event) is Ended:
            return


async def _pings(exchange: Exchange, stopping: asyncio.Event) -> None:
    while True:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await stopping.wait()
            return
        except TimeoutError:
            await exchange.send_part(PING)


async def _finish(exchange: Exchange, result: object, stopping: asyncio.Event) -> None:
    error: AgentPoolError | None = None
    if isinstance(result, AgentPoolError):
        error = result
    elif isinstance(result, asyncio.CancelledError):
        if stopping.is_set():
            error = Unavailable("The gateway is stopping.", retry_after_seconds=1.0)
    elif isinstance(result, BaseException):
        raise result
    if error is not None:
        document = msgspec.json.encode(problem_of(error, exchange.request_id))
        await exchange.send_part(frame("error", document))
    await exchange.send_part(b"", last=True)
