# SPDX-License-Identifier: Apache-2.0
"""What threads and asyncio do differently. The other half is in `_async/runtime.py`, written by hand, too."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import grpc

from agentpool_client.address import Address
from agentpool_client.answers import Event
from agentpool_client.errors import Broken
from agentpool_proto.v1.types_pb2 import InvokeEvent
from agentpool_rpc.channels import Silence, channel_options
from agentpool_rpc.status import from_rpc_error

__all__ = [
    "Channel",
    "Events",
    "Once",
    "Wire",
    "call",
    "close",
    "closing",
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
Channel = grpc.Channel
Once = Callable[[float], Any]
Events = Generator[Event, None, None]
Wire = Generator[InvokeEvent, None, None]

SILENCE = Silence(ping_seconds=5.0, answer_seconds=3.0)
"""So long a request hangs at a machine that is cut off; hosts and gateways allow a ping in 5 s."""

_SETTLED = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)

now = time.monotonic
jitter = random.random
sleep = time.sleep


def in_thread(function: Callable[[], T]) -> T:
    """The result of a function that blocks: in this thread, which may."""
    return function()


def open_gateway(address: Address, root_certificates: bytes | None) -> Channel:
    """A channel to a gateway."""
    options = channel_options(SILENCE)
    if not address.secure:
        return grpc.insecure_channel(address.target, options=options)
    credentials = grpc.ssl_channel_credentials(root_certificates)
    return grpc.secure_channel(address.target, credentials, options=options)


def open_host(address: str) -> Channel:
    """A channel to a host."""
    return grpc.insecure_channel(address, options=channel_options(SILENCE))


def connect(channel: Channel, seconds: float) -> bool:
    """Whether the channel is connected within that time; False at once when it is refused."""
    settled: SimpleQueue[bool] = SimpleQueue()

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state in _SETTLED:
            settled.put(state is grpc.ChannelConnectivity.READY)

    channel.subscribe(changed, try_to_connect=True)
    try:
        return settled.get(timeout=seconds)
    except Empty:
        return False
    finally:
        channel.unsubscribe(changed)


def close(channel: Channel) -> None:
    """Close a channel; calls on it are cancelled."""
    channel.close()


def call(method: Callable[..., Any], request: object, metadata: Any, seconds: float) -> Any:
    """One call with one answer; Broken."""
    try:
        return method(request, metadata=metadata, timeout=seconds)
    except grpc.RpcError as exc:
        raise _broken(exc) from exc
    except ValueError as exc:
        # gRPC says so of a channel that another thread has closed.
        raise Broken(None) from exc


def wire_events(method: Callable[..., Any], request: object, metadata: Any, seconds: float) -> Wire:
    """The events of one call; Broken. Closing it cancels the call."""
    try:
        stream = method(request, metadata=metadata, timeout=seconds)
    except ValueError as exc:
        raise Broken(None) from exc
    try:
        yield from stream
    except grpc.RpcError as exc:
        raise _broken(exc) from exc
    finally:
        stream.cancel()


def _broken(error: Any) -> Broken:
    # What gRPC raises is a call, too, and tells its code and trailers.
    told = from_rpc_error(error)
    return Broken(told, told is None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED)
