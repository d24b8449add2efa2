# SPDX-License-Identifier: Apache-2.0
"""Traces by OpenTelemetry: made only where an endpoint is set, exported in a thread, never waited for.

A program holds a `Tracing`, or None when traces are off: None costs a comparison on the request path, and
neither the SDK of traces nor an exporter is even imported. Times are those of `time.monotonic()`, as they are
everywhere else in the programs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from agentpool_core.errors import BY_CODE, AgentPoolError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Value = str | int | float | bool
Attributes = Mapping[str, Value]

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
"""Headers of REST, keys of gRPC metadata: https://www.w3.org/TR/trace-context/."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
IDENTITIES = "AGENTPOOL_TRACE_IDENTITIES"
"""`true`: spans say whose request it is."""
CANCELLED = "Cancelled"
MAX_WAITING = 4096
"""Spans that wait for their export; further ones are dropped and counted."""
BATCH = 128
"""Spans of one export. Encoding them takes the interpreter from the request path for a few milliseconds."""
EXPORT_SECONDS = 5.0
DELAY_SECONDS = 1.0
CLOSE_SECONDS = 3.0
QUIET_SECONDS = 60.0
"""Between two lines in the log about a collector that takes no spans."""

log = structlog.get_logger(__name__)


class Span:
    """One step of a request."""

    __slots__ = ("_offset_ns", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: OtelSpan, offset_ns: int) -> None:
        self._tracer, self._span, self._offset_ns = tracer, span, offset_ns

    @property
    def recording(self) -> bool:
        """Whether the trace was chosen to be kept; otherwise nothing of it is worth a measurement."""
        return self._span.is_recording()

    @property
    def trace_id(self) -> str:
        """Hexadecimal, as logs and user interfaces write it."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What tells the next process of this span."""
        found = self._span.get_span_context()
        parent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags) & 1:02x}"
        state = found.trace_state.to_header() if found.trace_state else ""
        return ((TRACEPARENT, parent), (TRACESTATE, state)) if state else ((TRACEPARENT, parent),)

    def child(
        self,
        name: str,
        began: float | None = None,
        attributes: Attributes | None = None,
        *,
        calls: bool = False,
    ) -> Span:
        """A step of this one that begins now, or began then; `calls`: it is a call of another process."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        span = self._tracer.start_span(
            name,
            set_span_in_context(self._span),
            SpanKind.CLIENT if calls else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=self._ns(began),
        )
        return Span(self._tracer, span, self._offset_ns)

    def note(self, attributes: Attributes) -> None:
        """Say more of it."""
        self._span.set_attributes(attributes)

    def end(self, ended: float | None = None, error: str = "") -> None:
        """It is over; `error`: what it failed with."""
        if error:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(self._ns(ended))

    def add(
        self, name: str, began: float, ended: float, attributes: Attributes | None = None, error: str = ""
    ) -> Span:
        """A step that is over already."""
        span = self.child(name, began, attributes)
        span.end(max(began, ended), error)
        return span

    def _ns(self, moment: float | None) -> int | None:
        return None if moment is None else self._offset_ns + round(moment * 1e9)


class Tracing:
    """Makes the spans of one process.

    Args:
        service: its name in traces.
        resource: what else is known of the process: its pod, for one.
        identities: whether spans may say whose request it is.
        exporter: where spans go; None: by OTLP over gRPC, as OTEL_EXPORTER_OTLP_* say.
    """

    def __init__(
        self,
        service: str,
        resource: Attributes | None = None,
        identities: bool = False,
        exporter: SpanExporter | None = None,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        # Its warnings of an exporter in trouble are our own line of the log.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self.identities = identities
        self._provider: TracerProvider = TracerProvider(
            # Which traces are kept is read from OTEL_TRACES_SAMPLER; a caller's own choice is followed.
            resource=Resource.create({"service.name": service, **(resource or {})}),
            shutdown_on_exit=False,
        )
        self._export = bounded_export(exporter or _otlp())
        self._provider.add_span_processor(self._export.processor)
        self._tracer = self._provider.get_tracer("agentpool")

    @property
    def dropped(self) -> int:
        """Spans that were made and could not be exported."""
        return self._export.dropped

    def request(
        self,
        name: str,
        header: Callable[[str], str | None],
        began: float,
        attributes: Attributes | None = None,
    ) -> Span:
        """A request has come.

        Args:
            header: value of a header of the request, for the span that it is a part of.
        """
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {key: value for key in (TRACEPARENT, TRACESTATE) if (value := header(key))}
        offset_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            name,
            TraceContextTextMapPropagator().extract(carrier),
            SpanKind.SERVER,
            attributes=attributes,
            start_time=offset_ns + round(began * 1e9),
        )
        return Span(self._tracer, span, offset_ns)

    @contextmanager
    def serving(
        self,
        name: str,
        header: Callable[[str], str | None],
        began: float,
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        """`request` for the time of a block, which lines of the log then name; it ends as the block does."""
        span = self.request(name, header, began, attributes)
        outcome = "success"
        with structlog.contextvars.bound_contextvars(trace_id=span.trace_id):
            try:
                yield span
            except AgentPoolError as exc:
                outcome = exc.code
                raise
            except BaseException as exc:
                outcome = AgentPoolError.code if isinstance(exc, Exception) else CANCELLED
                raise
            finally:
                span.note({"agentpool.outcome": outcome})
                span.end(error=outcome if at_fault(outcome) else "")

    def whose(self, span: Span, tenant_id: str, project_id: str) -> None:
        """Say whose request it is, where that is asked for."""
        if self.identities:
            span.note({"agentpool.tenant": tenant_id, "agentpool.project": project_id})

    async def close(self) -> None:
        """Export what waits, for a few seconds at most."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        # A daemon: a collector that hangs must not keep the process.
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


def at_fault(outcome: str) -> bool:
    """Whether an outcome is an error of ours or of the agent, and not of the caller."""
    error = BY_CODE.get(outcome)
    return error is not None and error.http_status >= 500


def tracing_of(
    environ: Mapping[str, str], service: str, resource: Attributes | None = None
) -> Tracing | None:
    """The traces that the environment asks for; None: none."""
    if not any(environ.get(name, "").strip() for name in ENDPOINTS):
        return None
    identities = environ.get(IDENTITIES, "").strip().lower() in ("true", "1")
    return Tracing(service, resource, identities)


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(timeout=EXPORT_SECONDS)


class Export:
    """What waits and what was lost; see `bounded_export`."""

    def __init__(self) -> None:
        # Each number has one thread that writes it.
        self.taken = self.refused = 0
        self.exported = self.failed = 0
        self.quiet_until = 0.0
        self.processor: SpanProcessor

    @property
    def dropped(self) -> int:
        """Spans that did not get out."""
        return self.refused + self.failed

    @property
    def full(self) -> bool:
        """Whether too many wait."""
        return self.taken - self.exported >= MAX_WAITING


def bounded_export(exporter: SpanExporter) -> Export:
    """The SDK's own export in batches by a thread, with a bound that counts what is over it."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.export import SpanExporter as Base

    state = Export()

    class Counted(Base):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = SpanExportResult.FAILURE
            try:
                result = exporter.export(spans)
            finally:
                state.exported += len(spans)
                if result is not SpanExportResult.SUCCESS:
                    state.failed += len(spans)
                    _complain(state)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    class Bounded(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.context is None or not span.context.trace_flags.sampled:
                return
            if state.full:
                state.refused += 1
                return
            state.taken += 1
            super().on_end(span)

    state.processor = Bounded(
        Counted(),
        max_queue_size=MAX_WAITING + BATCH,
        schedule_delay_millis=DELAY_SECONDS * 1000,
        max_export_batch_size=BATCH,
    )
    return state


def _complain(state: Export) -> None:
    now = time.monotonic()
    if now >= state.quiet_until:
        state.quiet_until = now + QUIET_SECONDS
        log.warning("spans_not_exported", dropped=state.dropped, remedy="Check the endpoint of traces.")
