# SPDX-License-Identifier: Apache-2.0
"""Histograms of our own show what prometheus_client's would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest

from agentpool_rpc.metrics import Distributions, process_text

BOUNDS = (0.001, 0.01, 0.1, 1.0)


@given(st.lists(st.floats(0, 2) | st.sampled_from(BOUNDS)))
def test_the_same_values_make_the_same_text(values: list[float]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = Distributions("a_seconds", "About.", ("kind",), BOUNDS)
    ours.register(family)
    peer = Histogram("a_seconds", "About.", ("kind",), buckets=BOUNDS, registry=theirs)
    for value in values:
        family.observe(value, "x")
        peer.labels("x").observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_a_child_counts_and_is_forgotten() -> None:
    family = Distributions("a_seconds", "About.", ("namespace", "pool"))
    family.observe(0.2, "n", "p")
    family.observe(0.2, "n", "q")
    assert family.child("n", "p").count == 1
    family.drop("n", "p")
    (metric,) = family.collect()
    assert {one.labels["pool"] for one in metric.samples} == {"q"}


async def test_a_process_tells_what_it_uses() -> None:
    assert b"process_cpu_seconds_total" in await process_text()
