# SPDX-License-Identifier: Apache-2.0
"""Spans: whose child they are, how they end, and that their export never holds anybody up."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpool_core.errors import RateExceeded, StoreUnavailable
from agentpool_rpc import tracing as module
from agentpool_rpc.tracing import CANCELLED, Tracing, tracing_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NONE: dict[str, str] = {}
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


class Exporter(SpanExporter):
    """Keeps spans, refuses them, or hangs until it is let go."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS, hangs: bool = False) -> None:
        self.spans: list[ReadableSpan] = []
        self.go = threading.Event()
        self._result, self._hangs = result, hangs

    def export(self, spans: Any) -> SpanExportResult:
        """See SpanExporter."""
        if self._hangs:
            self.go.wait(20)
        self.spans += spans
        return self._result

    def shutdown(self) -> None:
        """See SpanExporter."""


def test_a_span_goes_on_with_its_callers_trace_and_tells_the_next_process() -> None:
    tracing = Tracing("test", exporter=Exporter())
    span = tracing.request("a", HEADERS.get, time.monotonic())
    told = dict(span.child("b").headers)
    assert (span.trace_id, told["tracestate"]) == (TRACE, "vendor=1")
    version, trace, parent, flags = told["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert parent not in (PARENT, "0" * 16)


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
def test_what_is_no_trace_begins_a_new_one(header: str) -> None:
    tracing = Tracing("test", exporter=Exporter())
    span = tracing.request("a", {"traceparent": header}.get, time.monotonic())
    assert span.trace_id not in ("0" * 32, TRACE)
    assert span.recording


def test_a_caller_that_does_not_keep_its_trace_has_none_made() -> None:
    tracing = Tracing("test", exporter=Exporter())
    span = tracing.request("a", {"traceparent": f"00-{TRACE}-{PARENT}-00"}.get, time.monotonic())
    assert not span.recording
    assert dict(span.headers)["traceparent"].endswith("-00")


def make_many(tracing: Tracing, count: int) -> None:
    for _ in range(count):
        tracing.request("a", NONE.get, 1.0).end()


async def made(exporter: SpanExporter) -> Tracing:
    """As programs make it: before their event loop runs."""
    return await asyncio.to_thread(lambda: Tracing("test", exporter=exporter))


ENDS = {
    "an answer": (None, "success", False),
    "a refusal": (RateExceeded("no"), "RateExceeded", False),
    "our own trouble": (StoreUnavailable("no"), "StoreUnavailable", True),
    "a caller that went away": (asyncio.CancelledError(), CANCELLED, False),
    "a bug": (KeyError("no"), "Internal", True),
}


@pytest.mark.parametrize(("raised", "outcome", "failed"), ENDS.values(), ids=ENDS)
async def test_a_block_ends_its_span_as_it_ends_itself(
    raised: BaseException | None, outcome: str, failed: bool
) -> None:
    exporter = Exporter()
    tracing = await made(exporter)
    try:
        with tracing.serving("a", HEADERS.get, time.monotonic()):
            assert structlog.contextvars.get_contextvars()["trace_id"] == TRACE
            if raised is not None:
                raise raised
    except BaseException as exc:
        assert exc is raised
    assert "trace_id" not in structlog.contextvars.get_contextvars()
    await tracing.close()
    (span,) = exporter.spans
    assert (span.attributes or {})["agentpool.outcome"] == outcome
    assert (span.status.description == outcome) is failed


async def test_an_export_that_hangs_holds_up_nobody_and_its_queue_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 200)
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    exporter = Exporter(hangs=True)
    tracing = await made(exporter)
    try:
        await asyncio.to_thread(make_many, tracing, 500)
        assert tracing.dropped == 300
        began = time.monotonic()
        await tracing.close()
        assert time.monotonic() - began < 1
    finally:
        exporter.go.set()


async def test_spans_that_are_refused_count_as_dropped() -> None:
    tracing = await made(Exporter(SpanExportResult.FAILURE))
    tracing.request("a", NONE.get, time.monotonic()).end()
    await tracing.close()
    assert tracing.dropped == 1


@pytest.mark.parametrize(
    "environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, {"OTEL_TRACES_SAMPLER": "always_on"}]
)
def test_without_an_endpoint_there_are_no_traces(environ: dict[str, str]) -> None:
    assert tracing_of(environ, "test") is None
