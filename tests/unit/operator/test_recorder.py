# SPDX-License-Identifier: Apache-2.0
"""Events: once each, in a bounded number, and never in the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentpool_operator.kube.kinds import POOLS, Kind, Object, Refused
from agentpool_operator.report.events import BURST, SILENCE_SECONDS, Recorder

POOL: Object = {"metadata": {"namespace": "default", "name": "support", "uid": "pool-uid"}}


class Written:
    def __init__(self, refuse: bool = False) -> None:
        self.events: list[Mapping[str, Any]] = []
        self._refuse = refuse

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        if self._refuse:
            raise Refused(403, "Forbidden", "no right")
        self.events.append(body)
        return dict(body)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recorder(written: Written, clock: Clock) -> Recorder:
    return Recorder(written, "operator-1", clock, lambda: 1_800_000_000.0, lambda: "random")  # type: ignore[arg-type]


async def test_the_same_is_told_once_in_a_while() -> None:
    written, clock = Written(), Clock()
    tell = recorder(written, clock).tell
    for _ in range(3):
        await tell(POOLS, POOL, "ImageMissing", "not found", warning=True)
    assert len(written.events) == 1
    clock.now += SILENCE_SECONDS
    await tell(POOLS, POOL, "ImageMissing", "not found", warning=True)
    assert len(written.events) == 2


async def test_an_event_names_its_object_and_who_reports() -> None:
    written = Written()
    await recorder(written, Clock()).tell(POOLS, POOL, "Ready", "fine")
    (event,) = written.events
    assert event["regarding"] == {
        "apiVersion": "agentpool.dev/v1alpha1",
        "kind": "AgentPool",
        "namespace": "default",
        "name": "support",
        "uid": "pool-uid",
    }
    assert (event["type"], event["reason"], event["note"]) == ("Normal", "Ready", "fine")
    assert event["eventTime"] == "2027-01-15T08:00:00.000000Z"


async def test_a_flood_is_cut() -> None:
    written = Written()
    tell = recorder(written, Clock()).tell
    for number in range(10 * BURST):
        await tell(POOLS, POOL, "Ready", f"number {number}")
    assert len(written.events) == BURST


async def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    await recorder(Written(refuse=True), Clock()).tell(POOLS, POOL, "Ready", "fine")
