# SPDX-License-Identifier: Apache-2.0
"""A collector of traces: takes spans over OTLP, as the real ones do, and keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from support.waiting import eventually


@dataclass(frozen=True)
class Seen:
    """One span."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    failed: str
    kind: int
    attributes: Mapping[str, Any]


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What came, in the order in which it came."""

    address: str = ""
    spans: list[Seen] = field(default_factory=list)
    exports: int = 0

    async def Export(  # the name is the protocol's
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keep the spans."""
        self.exports += 1
        for resource in request.resource_spans:
            about = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_seen(str(about["service.name"]), span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    async def trace(self, trace: str, *names: str) -> dict[str, Seen]:
        """The spans of one trace by their names, once these have come."""

        def found() -> dict[str, Seen]:
            return {span.name: span for span in self.spans if span.trace == trace}

        await eventually(lambda: set(names) <= found().keys(), 20)
        return found()


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.message if span.status.code == 2 else "",
        span.kind,
        _attributes(span.attributes),
    )


def _attributes(found: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found}


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """A collector on a free port of loopback."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)
