# SPDX-License-Identifier: Apache-2.0
"""What a host checks of requests that no gateway has seen."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_agent.host.leased import check_leased
from agentpool_core.errors import AgentPoolError, InvalidRequest, MalformedRequest, PermissionDenied
from agentpool_proto.v1.host_pb2 import HostInvokeRequest


def request(**more: Any) -> HostInvokeRequest:
    return HostInvokeRequest(
        **{"tenant_id": "acme", "project_id": "p", "input": b'{"a": "\xc3\xa4"}', **more}
    )


def test_an_ordinary_request_passes() -> None:
    check_leased(request(idempotency_key="once-1"))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        pytest.param({"tier": "HOT"}, PermissionDenied, id="a tier, which takes a right of its own"),
        pytest.param({"input": b"{"}, MalformedRequest, id="half an object"),
        pytest.param({"input": b""}, MalformedRequest, id="nothing"),
        pytest.param({"input": b'"\xff"'}, MalformedRequest, id="bytes that are no text"),
        pytest.param({"idempotency_key": "a\nb"}, InvalidRequest, id="a key with a line break"),
        pytest.param({"idempotency_key": "schl\u00fcssel"}, InvalidRequest, id="a key beyond ASCII"),
    ],
)
def test_refuses(more: dict[str, Any], error: type[AgentPoolError]) -> None:
    with pytest.raises(error):
        check_leased(request(**more))
