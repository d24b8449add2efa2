# SPDX-License-Identifier: Apache-2.0
"""The REST client against a gateway that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from agentpool_cli.client import PoolClient, StreamEvent, read_events
from agentpool_cli.connection import Connection
from agentpool_core.errors import (
    AgentPoolError,
    DeadlineExceeded,
    OutcomeUnknown,
    PoolExhausted,
    Unavailable,
)

Answers = Callable[[httpx.Request], httpx.Response]


def client(answers: Answers, token: str = "") -> PoolClient:
    connection = Connection("http://gateway", "/api/v1/pool", 7.5, token)
    return PoolClient(connection, httpx.MockTransport(answers))


def test_a_request_carries_input_token_deadline_and_key() -> None:
    seen: list[httpx.Request] = []

    def answers(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"output": 1})

    with client(answers, token="t") as pool:
        assert pool.invoke({"input": {"a": 1}}, "key-1") == {"output": 1}
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/api/v1/pool/invoke")
    assert json.loads(request.content) == {"input": {"a": 1}}
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["x-request-timeout"] == "7.5"
    assert request.headers["idempotency-key"] == "key-1"


def test_instances_are_fetched_page_by_page() -> None:
    pages = {"": (["a", "b"], "b"), "b": (["c"], "")}

    def answers(request: httpx.Request) -> httpx.Response:
        ids, cursor = pages[request.url.params.get("cursor", "")]
        assert request.url.params["tier"] == "WARM"
        return httpx.Response(200, json={"instances": [{"id": one} for one in ids], "cursor": cursor})

    with client(answers) as pool:
        assert [one["id"] for one in pool.instances({"tier": "WARM"})] == ["a", "b", "c"]


def test_a_problem_becomes_the_error_that_its_code_names() -> None:
    body = {"code": "PoolExhausted", "detail": "Full.", "remedy": "Wait.", "retry_after_seconds": 1.5}

    def answers(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json=body, headers={"content-type": "application/problem+json"})

    with client(answers) as pool, pytest.raises(PoolExhausted) as refused:
        pool.stats()
    assert (refused.value.message, refused.value.hint) == ("Full.", "Wait.")
    assert refused.value.retry_after_seconds == 1.5


FOREIGN = [
    pytest.param(httpx.Response(404, text="<html>"), "404 Not Found", id="an error page of another server"),
    pytest.param(httpx.Response(200, text="hello"), "is not JSON", id="text of another server"),
]


@pytest.mark.parametrize(("response", "cause"), FOREIGN)
def test_an_answer_of_something_else_is_told_as_such(response: httpx.Response, cause: str) -> None:
    with client(lambda request: response) as pool, pytest.raises(AgentPoolError, match=cause) as told:
        pool.stats()
    assert "--url" in told.value.hint


BROKEN: list[object] = [
    pytest.param(httpx.ConnectError("refused"), Unavailable, "agentpool dev", id="nobody listens"),
    pytest.param(httpx.ReadTimeout("slow"), DeadlineExceeded, "more time", id="no answer in time"),
    pytest.param(httpx.ReadError("reset"), OutcomeUnknown, "Idempotency-Key", id="the connection breaks"),
]


@pytest.mark.parametrize(("failure", "error", "remedy"), BROKEN)
def test_trouble_on_the_way_is_named_with_a_remedy(
    failure: Exception, error: type[AgentPoolError], remedy: str
) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        raise failure

    with client(answers) as pool, pytest.raises(error) as told:
        pool.stats()
    assert remedy in told.value.hint


def stream(text: str) -> Answers:
    return lambda request: httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def test_events_come_one_by_one_and_pings_are_skipped() -> None:
    text = 'event: accepted\ndata: {"a": 1}\n\n: ping\n\nevent: chunk\ndata: "x"\n\nevent: done\ndata: {}\n\n'
    with client(stream(text)) as pool:
        events = list(pool.stream({"input": 1}))
    assert events == [StreamEvent("accepted", {"a": 1}), StreamEvent("chunk", "x"), StreamEvent("done", {})]


def test_an_error_in_the_stream_is_raised() -> None:
    text = 'event: chunk\ndata: 1\n\nevent: error\ndata: {"code": "PoolExhausted", "detail": "Full."}\n\n'
    with client(stream(text)) as pool, pytest.raises(PoolExhausted):
        list(pool.stream({"input": 1}))


def test_a_stream_that_breaks_off_is_not_taken_for_complete() -> None:
    with client(stream("event: chunk\ndata: 1\n\n")) as pool, pytest.raises(OutcomeUnknown):
        list(pool.stream({"input": 1}))


def test_data_over_several_lines_is_one_value() -> None:
    assert list(read_events(["event: chunk", "data: [1,", "data: 2]", ""])) == [StreamEvent("chunk", [1, 2])]
