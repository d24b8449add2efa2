# SPDX-License-Identifier: Apache-2.0
"""What the gateway is held against: a proxy that does nothing, `python -m benchmarks.bareproxy HOST:PORT`.

It takes one call with grpc.aio, passes its bytes and its authorization on to a host undecoded, and gives back
the bytes of the answer: no routing, no rights, no limits, no metrics. What a request costs here is what
grpc.aio costs; on a faster machine it costs less, and so does the gateway. It writes its port and serves
until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from agentpool_rpc.channels import make_server, open_channel
from benchmarks.stack import ROOT

SERVICE, METHOD = "agentpool.bench.BareProxy", "Invoke"
HOST_METHOD = "/agentpool.v1.AgentHost/InvokeUnary"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class BareProxy:
    """A running one."""

    address: str
    pid: int


@asynccontextmanager
async def bare_proxy(host: str) -> AsyncIterator[BareProxy]:
    """One before the host at that address, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.bareproxy", host),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the proxy has no pipe")
        async with asyncio.timeout(START_SECONDS):
            port = int(await process.stdout.readline())
        yield BareProxy(f"127.0.0.1:{port}", process.pid)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main() -> None:
    """The process."""
    channel = open_channel(sys.argv[1])
    ask: Any = channel.unary_unary(HOST_METHOD)

    async def invoke(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        given = tuple(pair for pair in context.invocation_metadata() or () if pair[0] == "authorization")
        answer: bytes = await ask(request, metadata=given, timeout=context.time_remaining())
        return answer

    server = make_server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        METHOD: grpc.unary_unary_rpc_method_handler(invoke)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
