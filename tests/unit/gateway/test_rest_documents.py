# SPDX-License-Identifier: Apache-2.0
"""What REST shows: problems, events, the API document."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from agentpool_core import errors
from agentpool_gateway.dispatch.stats import FIELDS, PoolStats
from agentpool_gateway.rest import page
from agentpool_gateway.rest.app import is_local
from agentpool_gateway.rest.events import frame
from agentpool_gateway.rest.openapi import document
from agentpool_gateway.rest.operations import DEFAULT_POOL, NAMED_POOL, OPERATIONS
from agentpool_gateway.rest.problems import headers_of, problem_of


@pytest.mark.parametrize("error", sorted(errors.BY_CODE))
def test_every_error_is_a_whole_problem(error: str) -> None:
    made = errors.from_code(error, "it went wrong", retry_after_seconds=0.2)
    problem = msgspec.to_builtins(problem_of(made, "request-1"))
    assert problem["code"] == made.code == error
    assert problem["status"] == made.http_status
    assert problem["instance"] == "request-1"
    assert all(problem[name] for name in ("type", "title", "detail", "remedy"))
    headers = dict(headers_of(made))
    assert headers[b"retry-after"] == b"1"
    assert (b"www-authenticate" in headers) == (made.http_status == 401)


@pytest.mark.parametrize(("seconds", "header"), [(0.001, b"1"), (1.0, b"1"), (1.2, b"2"), (59.5, b"60")])
def test_retry_after_is_rounded_up_to_whole_seconds(seconds: float, header: bytes) -> None:
    error = errors.RateExceeded("slow down", retry_after_seconds=seconds)
    assert dict(headers_of(error))[b"retry-after"] == header
    assert problem_of(error, "r").retry_after_seconds == seconds


def test_an_unknown_outcome_is_not_retryable_even_if_its_error_is() -> None:
    error = errors.DeadlineExceeded("late", details={"outcome": "unknown"})
    assert problem_of(error, "r").retryable is False


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"1", b"event: chunk\ndata: 1\n\n", id="one line"),
        pytest.param(b"{\n}", b"event: chunk\ndata: {\ndata: }\n\n", id="several lines"),
        pytest.param(b"[\r\n1\r]", b"event: chunk\ndata: [\ndata: 1\ndata: ]\n\n", id="other line ends"),
        pytest.param(b"", b"event: chunk\ndata: \n\n", id="nothing"),
    ],
)
def test_no_data_can_end_its_event(data: bytes, text: bytes) -> None:
    assert frame("chunk", data) == text


DOCUMENT = document()


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [one for value in part.values() for one in references(value)]
    return [one for value in part for one in references(value)] if isinstance(part, list) else []


def test_the_document_is_whole() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    schemas = DOCUMENT["components"]["schemas"]
    assert {one.removeprefix("#/components/schemas/") for one in references(DOCUMENT)} <= schemas.keys()
    identities = [one["operationId"] for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert len(identities) == len(set(identities))
    for path, methods in DOCUMENT["paths"].items():
        for one in methods.values():
            assert one["responses"] and one["summary"]
            declared = {each["name"] for each in one.get("parameters", ()) if each["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))


def test_every_operation_is_in_the_document_with_its_problems() -> None:
    for prefix in (DEFAULT_POOL, NAMED_POOL):
        for one in OPERATIONS:
            shown = DOCUMENT["paths"][prefix + one.path][one.method.lower()]
            assert str(one.status) in shown["responses"]
            for problem in one.problems:
                assert f"`{problem.code}`" in shown["responses"][str(problem.http_status)]["description"]


def test_field_names_are_snake_case_and_stats_are_explained() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in schema.get("properties", {}))
    assert FIELDS.keys() < set(PoolStats.__struct_fields__)


def test_the_page_names_every_path_and_loads_nothing() -> None:
    html = page.render(DOCUMENT).decode()
    assert all(path in html for path in DOCUMENT["paths"])
    assert not re.search(
        r"<(script|link|img|iframe)|https?://(?!agentpool)", html.replace("https://agentpool", "")
    )


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("http://127.0.0.1:3000", True),
        ("http://[::1]:3000", True),
        ("https://evil.test", False),
        ("http://localhost.evil.test", False),
        ("null", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_pages_of_other_origins_are_told_from_local_ones(origin: str | None, local: bool) -> None:
    assert is_local(origin) is local
