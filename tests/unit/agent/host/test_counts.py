# SPDX-License-Identifier: Apache-2.0
"""The steps of an activation, and calls of the store, as they are counted."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import generate_latest

from agentpool_agent.host.counts import HostCounts
from agentpool_agent.host.laps import Laps, Stage
from agentpool_agent.host.metrics import HostMetrics, Now
from agentpool_agent.store.measured import OPERATIONS, measured
from agentpool_core.errors import StoreUnavailable
from support.residents import host_rig


def test_steps_follow_each_other_and_the_first_end_counts() -> None:
    laps = Laps(10.0)
    laps.mark(Stage.CLAIM, 11.0)
    laps.mark(Stage.LOAD, 13.0)
    laps.mark(Stage.SETUP, 12.0)
    laps.mark(Stage.LOAD, 99.0)
    assert list(laps) == [(Stage.CLAIM, 10.0, 11.0), (Stage.LOAD, 11.0, 13.0), (Stage.SETUP, 13.0, 13.0)]
    assert laps.ended == 13.0


def test_an_activation_is_counted_by_kind_and_step() -> None:
    counts, laps = HostCounts(), Laps(10.0, {Stage.CLAIM: 10.5, Stage.RESTORE: 11.0})
    counts.activated(laps, restored=True)
    assert counts.activations.child("restored").total == pytest.approx(1.0)
    assert counts.activations.child("new").count == 0
    assert counts.stages.child("claim").total == counts.stages.child("restore").total == pytest.approx(0.5)


def test_a_status_that_is_no_code_makes_no_series() -> None:
    counts = HostCounts()
    for status in ("success", "RateExceeded", "made up"):
        counts.request_ended(status, 0.1)
    assert counts.statuses == {"success": 1, "RateExceeded": 1, "Other": 1}


class Store:
    """Answers `ping` once, and `get` never."""

    shared = True

    async def ping(self) -> None:
        """An answer."""

    async def get(self, instance_id: str) -> None:
        raise StoreUnavailable(instance_id)

    def __getattr__(self, name: str) -> object:
        if name in OPERATIONS:
            return self.ping
        raise AttributeError(name)


async def test_calls_of_the_store_are_counted_and_their_silence() -> None:
    counts = HostCounts()
    store = measured(Store(), counts.store_called)  # type: ignore[arg-type]  # a store in little
    await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.get("inst-1")
    assert store.shared
    assert (counts.store_calls.child("ping").count, counts.store_calls.child("get").count) == (1, 1)
    assert counts.store_failures == {"get": 1}
    assert {"claim", "load", "save", "release", "register", "reap", "list"} <= set(OPERATIONS)


async def test_a_scrape_shows_the_host() -> None:
    rig = await host_rig()
    rig.host.counts.store_called("save", 0.001, True)
    registry = HostMetrics(rig.host, Now(lambda: 2, lambda: 1)).registry
    text = (await asyncio.to_thread(generate_latest, registry)).decode()
    for line in (
        'agent_pool_host_instances{state="READY",tier="WARM"} 1.0',
        'agent_pool_host_store_failures_total{operation="save"} 1.0',
        "agent_pool_host_activations_running 2.0",
        "agent_pool_host_activations_waiting 1.0",
        "agent_pool_host_spare_workers 0.0",
        "agent_pool_host_store_silent 0.0",
    ):
        assert line in text
    assert "instance_id" not in text
