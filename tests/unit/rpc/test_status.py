# SPDX-License-Identifier: Apache-2.0
"""Errors survive the trip over gRPC with code, remedy and retry time."""

from __future__ import annotations

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from agentpool_core.errors import (
    BY_CODE,
    AgentPoolError,
    DeadlineExceeded,
    NotOwner,
    PoolExhausted,
    RateExceeded,
)
from agentpool_rpc.status import from_status, to_status


def build(cls: type[AgentPoolError]) -> AgentPoolError:
    return NotOwner("pod-1/0001") if cls is NotOwner else cls("what happened")


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_comes_back_as_itself(code: str) -> None:
    sent = build(BY_CODE[code])
    received = from_status(Status.FromString(to_status(sent).SerializeToString()))
    assert type(received) is type(sent)
    assert (received.message, received.hint, received.details) == (sent.message, sent.hint, sent.details)


def test_the_retry_time_survives_to_the_millisecond() -> None:
    received = from_status(to_status(RateExceeded("too fast", retry_after_seconds=1.234)))
    assert received is not None
    assert received.retry_after_seconds == 1.234


def test_two_causes_of_one_status_code_stay_apart() -> None:
    full, fast = to_status(PoolExhausted("full")), to_status(RateExceeded("fast"))
    assert full.code == fast.code
    assert type(from_status(full)) is not type(from_status(fast))


def test_a_status_of_somebody_else_is_not_ours() -> None:
    assert from_status(Status(code=14, message="connection refused")) is None


@pytest.mark.parametrize(
    ("details", "retryable"), [({}, "true"), ({"outcome": "unknown"}, "false")], ids=["no effect", "unknown"]
)
def test_a_request_whose_outcome_is_unknown_is_not_said_to_be_repeatable(
    details: dict[str, str], retryable: str
) -> None:
    (packed,) = to_status(DeadlineExceeded("late", details=details)).details
    info = ErrorInfo()
    packed.Unpack(info)
    assert info.metadata["retryable"] == retryable
