# SPDX-License-Identifier: Apache-2.0
"""Requests that come from an application itself, with a leased token: what the gateway else checks."""

from __future__ import annotations

import msgspec

from agentpool_core.errors import InvalidRequest, MalformedRequest, PermissionDenied
from agentpool_proto.v1.host_pb2 import HostInvokeRequest

_raw = msgspec.json.Decoder(msgspec.Raw)


def check_leased(request: HostInvokeRequest) -> None:
    """Raise what the gateway would refuse: a tier, which takes a right of its own, text that is not JSON, and
    a key that is not printable."""
    if request.tier:
        raise PermissionDenied(
            "A lease does not allow to choose a tier.", remedy="Send such a request through the gateway."
        )
    key = request.idempotency_key
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("Idempotency-Key is not usable.", remedy="Give printable ASCII characters.")
    try:
        if not request.input.isascii():
            request.input.decode()
        _raw.decode(request.input)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedRequest("input is not valid JSON.", remedy="Send one JSON value as input.") from exc
