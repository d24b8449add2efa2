# SPDX-License-Identifier: Apache-2.0
"""What asyncio and threads do differently. The other half is in `_sync/runtime.py`, written by hand, too."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import grpc.aio

from agentpool_client.address import Address
from agentpool_client.answers import Event
from agentpool_client.errors import Broken
from agentpool_proto.v1.types_pb2 import InvokeEvent
from agentpool_rpc.cancellation import caller_cancelled
from agentpool_rpc.channels import Silence, channel_options, open_channel
from agentpool_rpc.status import from_rpc_error

__all__ = [
    "Channel",
    "Events",
    "Once",
    "Wire",
    "aclosing",
    "call",
    "close",
    "connect",
    "in_thread",
    "jitter",
    "now",
    "open_gateway",
    "open_host",
    "sleep",
    "wire_events",
]

T = TypeVar("T")
Channel = grpc.aio.Channel
Once = Callable[[float], Awaitable[Any]]
Events = AsyncGenerator[Event, None]
Wire = AsyncGenerator[InvokeEvent, None]

SILENCE = Silence(ping_seconds=5.0, answer_seconds=3.0)
"""So long a request hangs at a machine that is cut off; hosts and gateways allow a ping in 5 s."""

_SETTLED = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)

now = time.monotonic
jitter = random.random


async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def in_thread(function: Callable[[], T]) -> T:
    """The result of a function that blocks."""
    return await asyncio.to_thread(function)


def open_gateway(address: Address, root_certificates: bytes | None) -> Channel:
    """A channel to a gateway."""
    if not address.secure:
        return open_channel(address.target, SILENCE)
    credentials = grpc.ssl_channel_credentials(root_certificates)
    return grpc.aio.secure_channel(address.target, credentials, options=channel_options(SILENCE))


def open_host(address: str) -> Channel:
    """A channel to a host."""
    return open_channel(address, SILENCE)


async def connect(channel: Channel, seconds: float) -> bool:
    """Whether the channel is connected within that time; False at once when it is refused."""
    state = channel.get_state(try_to_connect=True)
    try:
        async with asyncio.timeout(seconds):
            while state not in _SETTLED:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
    except TimeoutError:
        return False
    return state is grpc.ChannelConnectivity.READY


async def close(channel: Channel) -> None:
    """Close a channel; calls on it are cancelled."""
    await channel.close()


async def call(method: Callable[..., Any], request: object, metadata: Any, seconds: float) -> Any:
    """One call with one answer; Broken."""
    try:
        return await method(request, metadata=metadata, timeout=seconds)
    except grpc.aio.AioRpcError as exc:
        raise _broken(exc) from exc
    except asyncio.CancelledError:
        # gRPC raises the same when the channel is closed meanwhile.
        if caller_cancelled():
            raise
        raise Broken(None) from None


async def wire_events(method: Callable[..., Any], request: object, metadata: Any, seconds: float) -> Wire:
    """The events of one call; Broken. Closing it cancels the call."""
    stream = method(request, metadata=metadata, timeout=seconds)
    try:
        async for event in stream:
            yield event
    except grpc.aio.AioRpcError as exc:
        raise _broken(exc) from exc
    except asyncio.CancelledError:
        if caller_cancelled():
            raise
        raise Broken(None) from None
    finally:
        stream.cancel()


def _broken(error: grpc.aio.AioRpcError) -> Broken:
    told = from_rpc_error(error)
    return Broken(told, told is None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED)
