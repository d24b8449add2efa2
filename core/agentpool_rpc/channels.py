# SPDX-License-Identifier: Apache-2.0
"""gRPC channels and servers with the settings that every part shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

MAX_MESSAGE_BYTES = 80 * 1024 * 1024
"""Above every configurable limit: the pool's own limits refuse with a reason before gRPC cuts a call."""

_LIMITS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

_CHANNEL_OPTIONS = [
    *_LIMITS,
    # Idle channels are probed too, so a dead host costs no request.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The gateway decides on retries itself: only it knows what was accepted.
    ("grpc.enable_retries", 0),
    # Reconnect at once, then within a second: a restarted host is back in milliseconds.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # This one bounds a single attempt: a machine that is busy accepts connections late.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Two channels to one address must not share a connection that is being closed.
    ("grpc.use_local_subchannel_pool", 1),
]

_SERVER_OPTIONS = [
    *_LIMITS,
    # With SO_REUSEPORT another process of the same user could bind the port and take our connections.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
]


@dataclass(frozen=True, slots=True)
class Silence:
    """When a peer that says nothing is taken for gone: after a ping that stays without an answer."""

    ping_seconds: float = 10.0
    answer_seconds: float = 5.0


def open_channel(address: str, silence: Silence = Silence()) -> grpc.aio.Channel:
    """A channel to `host:port` inside the cluster or on this machine; made once per target and kept."""
    return grpc.aio.insecure_channel(address, options=channel_options(silence))


def channel_options(silence: Silence = Silence()) -> list[tuple[str, int]]:
    """The options of every channel, of whatever kind."""
    answer_ms = round(silence.answer_seconds * 1000)
    pings = [
        ("grpc.keepalive_time_ms", round(silence.ping_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", answer_ms),
        # Without it a ping may stay without an answer for a minute, whatever the time-out above.
        ("grpc.http2.ping_timeout_ms", answer_ms),
    ]
    return _CHANNEL_OPTIONS + pings


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (), max_calls: int | None = None
) -> grpc.aio.Server:
    """A server without ports; the caller binds and starts it. More than `max_calls` at one time are refused
    with RESOURCE_EXHAUSTED, without saying when to come back."""
    options = list(_SERVER_OPTIONS)
    if max_calls is not None:
        # Calls that nobody has looked at yet. Beyond these numbers (1,000, and 3,000 for sure) gRPC cancels
        # them without a reason; there is a better answer for each of them.
        options += [(f"grpc.server.max_pending_requests{limit}", max_calls) for limit in ("", "_hard_limit")]
    return grpc.aio.server(
        interceptors=tuple(interceptors), options=options, maximum_concurrent_rpcs=max_calls
    )


class ByName:
    """A server as the generated code sees it, whose methods are found by their name alone.

    grpc.aio keeps one outstanding future for each method that is registered with it beforehand, and waits for
    all of them anew for each call that arrives: a service of fifteen methods paid for that more than for the
    look-up that registering saves.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Passed on: these find a method by its name."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Left out: the same methods are among the generic ones."""
