# SPDX-License-Identifier: Apache-2.0
"""The error tree: one code, one class, and a status for every edge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from agentpool_core import errors
from agentpool_core.errors import BY_CODE, AgentPoolError, NotOwner, from_code

GRPC_CODES = {
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
}

PROMISED = {
    "MalformedRequest": (400, "INVALID_ARGUMENT"),
    "Unauthenticated": (401, "UNAUTHENTICATED"),
    "PermissionDenied": (403, "PERMISSION_DENIED"),
    "PoolNotFound": (404, "NOT_FOUND"),
    "IllegalTransition": (409, "FAILED_PRECONDITION"),
    "PayloadTooLarge": (413, "INVALID_ARGUMENT"),
    "ValidationFailed": (422, "INVALID_ARGUMENT"),
    "IdempotencyUnsupported": (422, "INVALID_ARGUMENT"),
    "ConcurrencyExceeded": (429, "RESOURCE_EXHAUSTED"),
    "RateExceeded": (429, "RESOURCE_EXHAUSTED"),
    "PoolExhausted": (503, "RESOURCE_EXHAUSTED"),
    "StoreUnavailable": (503, "UNAVAILABLE"),
    "AgentCreationTimeout": (504, "DEADLINE_EXCEEDED"),
}


def tree(root: type[AgentPoolError] = AgentPoolError) -> Iterator[type[AgentPoolError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def made(cls: type[AgentPoolError]) -> AgentPoolError:
    return from_code(cls.code, "what happened", details={"owner": "pod/nonce"})


ALL = sorted(tree(), key=lambda cls: cls.__name__)
OURS = [cls for cls in ALL if cls.__module__.startswith(errors.__name__)]
NAMES = [cls.__name__ for cls in OURS]


def test_no_two_errors_share_a_code() -> None:
    assert [code for code, times in Counter(cls.code for cls in ALL).items() if times > 1] == []


@pytest.mark.parametrize("cls", OURS, ids=NAMES)
def test_every_error_has_its_own_statuses_and_words(cls: type[AgentPoolError]) -> None:
    assert BY_CODE[cls.code] is cls
    assert 400 <= cls.http_status <= 599
    assert cls.grpc_status in GRPC_CODES
    assert cls.remedy.endswith(".")
    assert (cls.__doc__ or "").strip()


@pytest.mark.parametrize("cls", OURS, ids=NAMES)
def test_an_error_survives_the_wire(cls: type[AgentPoolError]) -> None:
    error = made(cls)
    assert type(error) is cls
    assert error.details == {"owner": "pod/nonce"}


@pytest.mark.parametrize(("code", "statuses"), PROMISED.items(), ids=PROMISED)
def test_a_promised_code_has_its_statuses(code: str, statuses: tuple[int, str]) -> None:
    assert (BY_CODE[code].http_status, BY_CODE[code].grpc_status) == statuses


def test_an_unknown_code_of_a_newer_version_is_a_plain_failure() -> None:
    error = from_code("InventedLater", "text", remedy="do this", retry_after_seconds=2.5)
    assert type(error) is AgentPoolError
    assert (error.message, error.hint, error.retry_after_seconds) == ("text", "do this", 2.5)


def test_not_owner_names_the_owner_and_can_be_retried() -> None:
    error = NotOwner("pod-2/nonce")
    assert error.details == {"owner": "pod-2/nonce"}
    assert error.retryable
    assert error.retry_after_seconds == 0.1


@pytest.mark.parametrize("cls", OURS, ids=NAMES)
def test_what_the_caller_did_wrong_is_not_to_be_sent_again(cls: type[AgentPoolError]) -> None:
    if cls.http_status in {400, 401, 403, 404, 413, 422}:
        assert not cls.retryable
