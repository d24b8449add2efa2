# SPDX-License-Identifier: Apache-2.0
"""The gRPC server of every part: how it finds methods, counts calls, and what becomes of a burst."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from agentpool_core.errors import Overloaded
from agentpool_core.overload import AdaptiveLimit
from agentpool_core.shares import Shares
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.rpc.shedding import Shedding
from agentpool_rpc.channels import ByName, make_server
from agentpool_rpc.status import ErrorInterceptor, from_rpc_error
from support.waiting import eventually

SERVICE = "test.Service"
ECHO = f"/{SERVICE}/Echo"
BURST = 2_500
"""Between the numbers from which on gRPC cancels some, and all, calls that nobody has looked at."""


@asynccontextmanager
async def serving(server: grpc.aio.Server, echo: Any) -> AsyncIterator[str]:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def echo(request: bytes, _context: Any) -> bytes:
    return request


def _burst(address: str) -> Counter[grpc.StatusCode]:
    """Calls of another thread, all at once; by their codes."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(10)
        ask: Any = channel.unary_unary(ECHO)
        time.sleep(0.4)  # until nobody listens
        calls = [ask.future(b"x", timeout=30) for _ in range(BURST)]
        return Counter(call.code() for call in calls)


async def test_a_burst_is_heard_out_however_long_nobody_looks() -> None:
    async with serving(make_server(max_calls=2 * BURST), echo) as address:
        burst = asyncio.create_task(asyncio.to_thread(_burst, address))
        await asyncio.sleep(0.3)
        time.sleep(1.0)  # noqa: ASYNC251  # the server's event loop hears nothing meanwhile
        codes = await burst
    assert codes == {grpc.StatusCode.OK: BURST}


async def test_generated_services_are_served_by_name() -> None:
    server = make_server()
    named: Any = ByName(server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, named)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    async with serving(server, echo) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_more_calls_than_there_may_be_are_refused_in_full_and_health_is_not() -> None:
    errors = ErrorInterceptor()
    overload = Overload(AdaptiveLimit(10, 10), Shares(10))
    codes: list[str] = []
    shedding = Shedding(overload, SERVICE, codes.append, lambda: errors.calls >= 2)
    server, go_on = make_server([shedding, errors]), asyncio.Event()
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)

    async def waits(request: bytes, _context: Any) -> bytes:
        await go_on.wait()
        return request

    async with serving(server, waits) as address, grpc.aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(ECHO)
        held = [asyncio.ensure_future(ask(b"x", timeout=30)) for _ in range(2)]

        async def full() -> bool:
            return errors.calls == 2

        await eventually(full)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(b"x", timeout=30)
        error = from_rpc_error(refused.value)
        assert isinstance(error, Overloaded)
        assert error.retry_after_seconds == 1.0
        assert codes == [Overloaded.code]
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        go_on.set()
        assert await asyncio.gather(*held) == [b"x", b"x"]
        assert await ask(b"y", timeout=30) == b"y"
        assert errors.calls == 0
