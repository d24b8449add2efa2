# SPDX-License-Identifier: Apache-2.0
"""How a host tells that it has accepted the request of a unary call, which has no events to tell it by, and
that it takes a call for many.

As initial metadata it is there also when the call fails: `AioRpcError.initial_metadata()` has what had come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from agentpool_proto.v1.host_pb2 import HostInvokeResponse
from agentpool_proto.v1.types_pb2 import InvokeEvent

_KEY = "agentpool-accepted"
ACCEPTED = ((_KEY, "1"),)
"""The metadata that tell it."""


async def answer_of(
    events: AsyncIterator[InvokeEvent], tell: Callable[[], Awaitable[object]]
) -> HostInvokeResponse:
    """The answer to a request of which these are the events. What comes after `accepted` is asked for when
    `tell` is done: that it was accepted has left."""
    response = HostInvokeResponse()
    async for event in events:
        if event.HasField("accepted"):
            response.accepted.CopyFrom(event.accepted)
            await tell()
        elif event.HasField("done"):
            response.done.CopyFrom(event.done)
    return response


def tells_acceptance(metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Whether the host had accepted the call that this initial metadata is of."""
    return any(key == _KEY for key, _ in metadata or ())
