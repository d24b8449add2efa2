# SPDX-License-Identifier: Apache-2.0
"""What a line of the audit log says, and when one is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from agentpool_core.errors import PermissionDenied
from agentpool_gateway.admission.audit import MAX_CHARS, AuditLine, outcome, request_id
from agentpool_gateway.admission.identity import Identity
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.rest.events import SlowReader
from agentpool_gateway.rest.exchange import ClientGone
from agentpool_proto.v1.types_pb2 import Instance

CALLER = Identity("app", "https://issuer.test", 1.0, "https://issuer.test#app", ("group",))


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as found:
        yield found


def test_a_line_says_who_did_what_to_whom_and_how_it_ended(lines: list[MutableMapping[str, Any]]) -> None:
    with AuditLine("r-1", "pause_instance", "pause", privileged=True) as line:
        line.caller(CALLER)
        line.pool(PoolName("team-a", "support"))
        line.names(instance="inst-1", tier="")
        line.about(Instance(id="inst-1", tenant_id="acme", project_id="p", tier="HOT", state="PAUSED"))
    assert lines == [
        {
            "event": "privileged_call",
            "log_level": "info",
            "logger": "audit",
            "request_id": "r-1",
            "operation": "pause_instance",
            "verb": "pause",
            "outcome": "Success",
            "issuer": "https://issuer.test",
            "subject": "app",
            "namespace": "team-a",
            "pool": "support",
            "tenant": "acme",
            "project": "p",
            "instance": "inst-1",
            "tier": "HOT",
            "state": "PAUSED",
        }
    ]


def test_a_line_without_a_usable_id_gets_one(lines: list[MutableMapping[str, Any]]) -> None:
    for given in ("", "with space", "x" * 200):
        with AuditLine(given, "pause_instance", "pause", privileged=True):
            pass
    made = [line["request_id"] for line in lines]
    assert len(set(made)) == 3
    assert all(len(one) == 32 for one in made)


def test_a_refused_call_has_a_line_too_and_its_error_goes_on(lines: list[MutableMapping[str, Any]]) -> None:
    with pytest.raises(PermissionDenied), AuditLine("r", "forget_tenant", "forget", privileged=True) as line:
        line.caller(CALLER)
        raise PermissionDenied("with words that quote what came in")
    assert [one["outcome"] for one in lines] == ["PermissionDenied"]
    assert "quote" not in str(lines)


def test_a_call_that_is_not_privileged_has_none(lines: list[MutableMapping[str, Any]]) -> None:
    with AuditLine("r", "invoke", "invoke") as line:
        line.caller(CALLER)
    assert lines == []


def test_one_that_turns_out_to_be_has_one(lines: list[MutableMapping[str, Any]]) -> None:
    with AuditLine("r", "invoke", "invoke") as line:
        line.privileged = True
    assert len(lines) == 1


def test_no_value_is_without_end(lines: list[MutableMapping[str, Any]]) -> None:
    with AuditLine("r", "get", "get", privileged=True) as line:
        line.names(instance="x" * 10_000)
        line.counted(erased=10**6)
    assert (len(lines[0]["instance"]), lines[0]["erased"]) == (MAX_CHARS, 10**6)


OUTCOMES = [
    pytest.param(None, "Success", id="an answer"),
    pytest.param(PermissionDenied("no"), "PermissionDenied", id="a refusal"),
    pytest.param(asyncio.CancelledError(), "Cancelled", id="a cancelled call"),
    pytest.param(GeneratorExit(), "Cancelled", id="a stream that is given up"),
    pytest.param(ClientGone(), "Cancelled", id="a client that hangs up"),
    pytest.param(SlowReader(), "Cancelled", id="a client that does not read"),
    pytest.param(ValueError("secret"), "Internal", id="a defect"),
]


@pytest.mark.parametrize(("error", "name"), OUTCOMES)
def test_an_outcome_is_a_word(error: BaseException | None, name: str) -> None:
    assert outcome(error) == name


@pytest.mark.parametrize("given", ["", "with space", "new\nline", "x" * 129, "ü"])
def test_an_id_that_is_of_no_use_is_replaced(given: str) -> None:
    assert request_id(given) not in ("", given)


def test_an_id_that_is_of_use_is_kept() -> None:
    assert request_id("trace:1/2") == "trace:1/2"
