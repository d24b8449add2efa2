# SPDX-License-Identifier: Apache-2.0
"""The fault proxies, in front of small servers of the tests' own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from support.faultplan import Answer, Delay, Drop, EventRule, Older, Rule
from support.faultproxy import FaultProxy, open_proxy
from support.tcpproxy import open_tcp_proxy
from support.waiting import eventually

PODS = "/api/v1/namespaces/lane/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/lane/leases/one"


@dataclass
class Upstream:
    """As much of an API server as a proxy can notice."""

    written: list[str] = field(default_factory=list)
    lists: int = 0
    events: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(100))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                event = {"type": await self.events.get(), "object": {}}
                await response.write(json.dumps(event).encode() + b"\n")
        if request.method == "GET":
            self.lists += 1
            return web.json_response({"items": self.lists})
        self.written.append(request.method)
        return web.json_response({"written": len(self.written)})


@dataclass
class Between:
    """A client with a proxy before its server."""

    upstream: Upstream
    proxy: FaultProxy
    session: aiohttp.ClientSession

    async def write(self, path: str = PODS) -> tuple[int, str]:
        async with self.session.post(self.proxy.url + path, json={}) as answer:
            return answer.status, answer.headers.get("Retry-After", "")

    async def list(self) -> int:
        async with self.session.get(self.proxy.url + PODS) as answer:
            found: int = (await answer.json())["items"]
            return found


@asynccontextmanager
async def _between() -> AsyncIterator[Between]:
    upstream = Upstream()
    runner = web.ServerRunner(web.Server(upstream.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with open_proxy(f"http://{host}:{port}") as proxy, aiohttp.ClientSession() as session:
            yield Between(upstream, proxy, session)
    finally:
        await runner.cleanup()


@pytest.fixture
async def between() -> AsyncIterator[Between]:
    async with _between() as one:
        yield one


async def test_requests_pass_and_are_counted_without_leases(between: Between) -> None:
    assert (await between.write())[0] == 200
    assert (await between.write(LEASES))[0] == 200
    assert await between.list() == 1
    assert [(call.verb, call.resource, call.write) for call in between.proxy.calls] == [
        ("create", "pods", 1),
        ("create", "leases", 0),
        ("list", "pods", 0),
    ]


async def test_an_error_comes_in_the_servers_place_at_the_write_that_was_named(between: Between) -> None:
    answer = Answer(429, "TooManyRequests", retry_after=1)
    between.proxy.rules.append(Rule(lambda call: call.write == 2, answer))
    assert [await between.write() for _ in range(3)] == [(200, ""), (429, "1"), (200, "")]
    assert len(between.upstream.written) == 2
    assert between.proxy.injected == {"429 before commit": 1}


async def test_an_error_after_commit_hides_what_was_done(between: Between) -> None:
    between.proxy.rules.append(Rule(lambda _: True, Answer(504, "Timeout", committed=True)))
    assert (await between.write())[0] == 504
    assert len(between.upstream.written) == 1


@pytest.mark.parametrize("committed", [False, True])
async def test_a_broken_connection_ends_who_asked_first(between: Between, committed: bool) -> None:
    asked: list[int] = []

    async def note() -> None:
        asked.append(len(between.upstream.written))

    between.proxy.rules.append(Rule(lambda call: bool(call.write), Drop(committed, note)))
    with pytest.raises(aiohttp.ClientError):
        await between.write()
    assert asked == [int(committed)]
    assert (await between.write())[0] == 200


async def test_an_older_list_is_the_first_one_that_was_kept(between: Between) -> None:
    between.proxy.keep_lists = True
    assert [await between.list(), await between.list()] == [1, 2]
    between.proxy.rules.append(Rule(lambda call: call.verb == "list", Older()))
    assert [await between.list(), await between.list()] == [1, 3]


async def test_a_delay_changes_nothing_else(between: Between) -> None:
    between.proxy.rules.append(Rule(lambda _: True, Delay(0.05)))
    began = asyncio.get_running_loop().time()
    assert (await between.write())[0] == 200
    assert asyncio.get_running_loop().time() - began >= 0.05


@asynccontextmanager
async def _watch(between: Between) -> AsyncIterator[list[str]]:
    """What a watch tells, as it comes."""
    told: list[str] = []
    note = told.append

    async def read() -> None:
        async with between.session.get(between.proxy.url + PODS, params={"watch": "true"}) as answer:
            async for line in answer.content:
                note(json.loads(line)["type"])

    task = asyncio.create_task(read())
    await eventually(lambda: between.proxy.watching == 1)
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_frozen_watch_stays_open_and_writes_pass(between: Between) -> None:
    async with _watch(between) as told:
        between.proxy.freeze()
        between.upstream.events.put_nowait("ADDED")
        assert (await between.write())[0] == 200
        await asyncio.sleep(0.2)
        assert (told, between.proxy.watching) == ([], 1)
        between.proxy.thaw()
        await eventually(lambda: told == ["ADDED"])


async def test_events_are_dropped_and_doubled_by_the_plan(between: Between) -> None:
    rules = [
        EventRule(lambda _, event: event["type"] == "ADDED", copies=0),
        EventRule(lambda _, event: event["type"] == "DELETED", copies=2),
    ]
    between.proxy.event_rules.extend(rules)
    async with _watch(between) as told:
        for kind in ("ADDED", "MODIFIED", "DELETED", "ADDED"):
            between.upstream.events.put_nowait(kind)
        await eventually(lambda: told == ["MODIFIED", "DELETED", "DELETED", "ADDED"])


async def test_an_expired_watch_says_so_once_and_ends(between: Between) -> None:
    between.proxy.expire("pods")
    async with between.session.get(between.proxy.url + PODS, params={"watch": "true"}) as answer:
        assert json.loads(await answer.read())["object"]["code"] == 410
    async with _watch(between) as told:
        between.upstream.events.put_nowait("ADDED")
        await eventually(lambda: told == ["ADDED"])


async def test_a_watch_can_be_cut(between: Between) -> None:
    async with _watch(between):
        between.proxy.cut_watches()
        await eventually(lambda: between.proxy.watching == 0)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def test_a_connection_breaks_in_the_middle_of_an_answer() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server, open_tcp_proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"first\n")
        assert await reader.readline() == b"FIRST\n"
        proxy.cut_after = 1
        writer.write(b"second\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(b"SECOND\n"))
        assert proxy.cuts == 1
        writer.close()
