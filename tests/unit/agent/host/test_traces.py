# SPDX-License-Identifier: Apache-2.0
"""The trace of a request at its host, also when its worker lies."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.invoke import Call
from agentpool_agent.host.laps import Laps, Stage
from agentpool_agent.host.tracing import SPANS, tell
from agentpool_agent.wire.frames import SpanRecord
from agentpool_core.errors import StoreUnavailable
from agentpool_proto.v1.host_pb2 import HostInvokeRequest
from agentpool_rpc.tracing import Tracing
from support.residents import HostRig, host_rig

START = 1_000.0
NONE: dict[str, str] = {}


class Kept(SpanExporter):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        """See SpanExporter."""
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """See SpanExporter."""


class Traced:
    """A request that has ended, and its spans."""

    def __init__(self, rig: HostRig, *, activated: bool = False) -> None:
        self.kept = Kept()
        self.call = Call(HostInvokeRequest(), frozenset(), START, START + 60, admitted_at=START + 2)
        self.call.resident = rig.resident
        self.call.exchange = Exchange(1, "", START + 60, 1000)
        if activated:
            self.call.activated_at = START + 1.5

    async def told(self, status: str = "success") -> dict[str, ReadableSpan]:
        """The spans by their names; times are seconds since the request's arrival."""
        tracing = await asyncio.to_thread(lambda: Tracing("test", exporter=self.kept))
        span = tracing.request("host.invoke", NONE.get, START)
        tell(span, self.call, status, START + 10)
        await tracing.close()
        return {one.name: one for one in self.kept.spans}

    def seconds(self, found: dict[str, ReadableSpan], name: str) -> tuple[float, float]:
        """When a span began and ended."""
        origin, span = found["host.invoke"].start_time or 0, found[name]
        return tuple(round(((at or 0) - origin) / 1e9, 3) for at in (span.start_time, span.end_time))  # type: ignore[return-value]  # two


async def test_a_resident_instance_is_admitted_works_and_saves() -> None:
    traced = Traced(await host_rig())
    exchange = traced.call.exchange
    assert exchange is not None
    exchange.spans = [
        SpanRecord("worker.handle", -1, START + 3, START + 5),
        SpanRecord("think", 0, START + 3, START + 4, "ValueError", {"depth": 2}),
    ]
    exchange.saving_at, exchange.finished_at = START + 6, START + 8
    found = await traced.told()
    assert set(found) == {"host.invoke", "admission", "worker.handle", "think", "commit"}
    assert traced.seconds(found, "admission") == (0, 2)
    assert traced.seconds(found, "worker.handle") == (3, 5)
    assert traced.seconds(found, "commit") == (6, 8)
    assert found["think"].parent == found["worker.handle"].context
    assert found["think"].status.description == "ValueError"
    assert found["host.invoke"].status.is_unset


@pytest.mark.parametrize(("began", "joined"), [(START + 0.1, False), (START - 1, True)])
async def test_an_activation_is_told_by_the_request_that_began_it(began: float, joined: bool) -> None:
    rig = await host_rig()
    rig.entry.laps = Laps(began, {Stage.CLAIM: began + 0.4, Stage.RESTORE: began + 1})
    traced = Traced(rig, activated=True)
    found = await traced.told()
    assert traced.seconds(found, "activation") == (0, 1.5)
    assert (found["activation"].attributes or {})["agentpool.joined"] is joined
    assert ("activation.claim" in found) is not joined


LIES = {
    "times long before and after": (0.0, 10.0**12),
    "no numbers": (math.nan, math.nan),
    "without end": (-math.inf, math.inf),
    "the wrong way round": (START + 5, START + 3),
}


@pytest.mark.parametrize(("began", "ended"), LIES.values(), ids=LIES)
async def test_times_of_a_worker_stay_within_its_request(began: float, ended: float) -> None:
    traced = Traced(await host_rig())
    assert traced.call.exchange is not None
    traced.call.exchange.spans = [
        SpanRecord("lie", 7, began, ended, "", {"big": 2**64 - 1, "x" * 999: "y" * 999})
    ]
    found = await traced.told()
    first, last = traced.seconds(found, "lie")
    assert 2 <= first <= last <= 10
    assert found["lie"].parent == found["host.invoke"].context
    assert dict(found["lie"].attributes or {}) == {"x" * 64: "y" * 256}


async def test_a_flood_of_spans_is_cut() -> None:
    traced = Traced(await host_rig())
    assert traced.call.exchange is not None
    traced.call.exchange.spans = [SpanRecord(str(n), n - 1, START + 3, START + 4) for n in range(1000)]
    assert len(await traced.told()) == SPANS + len({"host.invoke", "admission"})


async def test_an_error_of_ours_marks_the_spans_and_one_of_the_caller_does_not() -> None:
    traced = Traced(await host_rig())
    exchange = traced.call.exchange
    assert exchange is not None
    exchange.saving_at = START + 6
    exchange.fail(StoreUnavailable("away"))
    found = await traced.told("StoreUnavailable")
    assert found["host.invoke"].status.description == "StoreUnavailable"
    assert found["commit"].status.description == "StoreUnavailable"
    refused = await Traced(await host_rig()).told("RateExceeded")
    assert refused["host.invoke"].status.is_unset
