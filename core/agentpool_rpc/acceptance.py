# SPDX-License-Identifier: Apache-2.0
"""How a host tells that it has accepted the request of a unary call, which has no events to tell it by.

As initial metadata it is there also when the call fails: `AioRpcError.initial_metadata()` has what had come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio

from agentpool_proto.v1.host_pb2 import HostInvokeResponse
from agentpool_proto.v1.types_pb2 import InvokeEvent

_KEY = "agentpool-accepted"
_ACCEPTED = ((_KEY, "1"),)


async def answer_of(
    events: AsyncIterator[InvokeEvent], context: grpc.aio.ServicerContext[Any, Any]
) -> HostInvokeResponse:
    """The answer to a unary call of which these are the events. What comes after `accepted` is asked for when
    that it was accepted has left."""
    response = HostInvokeResponse()
    async for event in events:
        if event.HasField("accepted"):
            response.accepted.CopyFrom(event.accepted)
            await context.send_initial_metadata(_ACCEPTED)
        elif event.HasField("done"):
            response.done.CopyFrom(event.done)
    return response


def tells_acceptance(metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Whether the host had accepted the call that this initial metadata is of."""
    return any(key == _KEY for key, _ in metadata or ())
