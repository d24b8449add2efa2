# SPDX-License-Identifier: Apache-2.0
"""The history checker: histories that keep the ten invariants, and for each one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from faults.history import (
    ACCEPTED,
    BEGAN,
    CANCELLED,
    EFFECT,
    ENDED,
    INVARIANTS,
    Bounds,
    Entry,
    Held,
    Request,
    Rest,
    Run,
    Saved,
    Seen,
    Wrote,
    check,
)

BOUNDS = Bounds(end=1000.0)


def pool(at: float, *, count: int = 2, hot: int = 1, change: str = "ADDED", **more: Any) -> Seen:
    """An AgentPool as a watch tells of it."""
    spec = {"warmup": {"count": count}, "tiers": {"hot": {"maxInstances": hot}}}
    metadata = {"name": "support", "uid": "pool", "generation": 1, **more.pop("metadata", {})}
    return Seen(at, change, {"kind": "AgentPool", "metadata": metadata, "spec": spec, **more})


def pod(at: float, uid: str, role: str = "generic", change: str = "ADDED", **labels: str) -> Seen:
    """A pod of the pool."""
    marks = {"agentpool.dev/role": role, "agentpool.dev/pool-uid": "pool"}
    marks |= {f"agentpool.dev/{name}": text for name, text in labels.items()}
    owner = [{"uid": "pool", "kind": "AgentPool"}]
    metadata = {"name": uid, "uid": uid, "labels": marks, "ownerReferences": owner}
    return Seen(at, change, {"kind": "Pod", "metadata": metadata})


def status(observed: int, ready: int, generation: int = 1) -> Seen:
    """A pool that tells of a generation, and is Ready for one."""
    told = {"type": "Ready", "status": "True", "observedGeneration": ready}
    return pool(
        1.0,
        metadata={"generation": generation},
        status={"observedGeneration": observed, "conditions": [told]},
    )


GOOD: dict[str, Sequence[Entry]] = {
    "nothing happened": [],
    "as many waiting pods as wanted, and one more while one leaves": [
        pool(0.0),
        *(pod(1.0 + number, f"pod-{number}") for number in range(3)),
        pod(5.0, "pod-0", change="DELETED"),
        pod(6.0, "pod-3"),
    ],
    "pods made for a wish that was lowered a moment ago": [
        pool(0.0, count=4),
        pool(10.0, count=0, change="MODIFIED"),
        *(pod(11.0, f"pod-{number}") for number in range(4)),
    ],
    "an adopted pod is none of the waiting ones": [
        pool(0.0),
        *(pod(1.0, f"pod-{number}") for number in range(3)),
        pod(2.0, "pod-0", change="MODIFIED", instance="inst-1"),
        pod(3.0, "pod-3"),
    ],
    "an instance moves": [
        Held(1.0, "inst-1", "host-a", "acme"),
        Held(2.0, "inst-1", "host-a", "acme", ended=True),
        Held(3.0, "inst-1", "host-b", "acme"),
    ],
    "a request that ends well": [
        Request(1.0, "r", ACCEPTED),
        Request(2.0, "r", EFFECT),
        Request(3.0, "r", ENDED),
    ],
    "a request whose caller saw an error": [Request(1.0, "r", ACCEPTED), Request(2.0, "r", ENDED, ok=False)],
    "versions that grow": [Saved(1.0, "inst-1", 1), Saved(2.0, "inst-1", 2), Saved(3.0, "inst-2", 1)],
    "a status of the present generation": [status(1, 1)],
    "children that go with their pool": [
        pool(0.0),
        pod(1.0, "pod-1"),
        pool(2.0, change="DELETED"),
        pod(30.0, "pod-1", change="DELETED"),
    ],
    "a child run that ends soon": [
        Run(1.0, "parent", BEGAN),
        Run(2.0, "child", BEGAN, "parent"),
        Run(3.0, "parent", CANCELLED),
        Run(9.0, "child", ENDED),
    ],
    "writes before and after the rest": [
        Wrote(1.0, "operator", "patch"),
        Rest(2.0, 9.0),
        Wrote(10.0, "operator", "patch"),
    ],
}
BAD: dict[str, tuple[int, Sequence[Entry]]] = {
    "pods beyond the surge": (1, [pool(0.0), *(pod(20.0, f"pod-{number}") for number in range(4))]),
    "two hosts serve one instance": (
        2,
        [Held(1.0, "inst-1", "host-a", "acme"), Held(2.0, "inst-1", "host-b", "acme")],
    ),
    "an instance serves two tenants": (
        3,
        [
            Held(1.0, "inst-1", "host-a", "acme"),
            Held(2.0, "inst-1", "host-a", "acme", ended=True),
            Held(3.0, "inst-1", "host-a", "other"),
        ],
    ),
    "a request that never ends": (4, [Request(1.0, "r", ACCEPTED)]),
    "a request that ends twice": (
        4,
        [
            Request(1.0, "r", ACCEPTED),
            Request(2.0, "r", EFFECT),
            Request(3.0, "r", ENDED),
            Request(4.0, "r", ENDED),
        ],
    ),
    "an effect that comes twice": (
        4,
        [Request(1.0, "r", EFFECT), Request(2.0, "r", EFFECT), Request(3.0, "r", ENDED)],
    ),
    "an acknowledged effect that is lost": (4, [Request(1.0, "r", ACCEPTED), Request(2.0, "r", ENDED)]),
    "a version that comes again": (5, [Saved(1.0, "inst-1", 2), Saved(2.0, "inst-1", 2)]),
    "a status of a generation to come": (6, [status(2, 2)]),
    "Ready for another generation": (6, [status(2, 1, generation=2)]),
    "a pod that outlives its pool": (7, [pool(0.0), pod(1.0, "pod-1"), pool(2.0, change="DELETED")]),
    "a finalizer that holds a pool": (
        7,
        [
            pool(
                0.0,
                metadata={"deletionTimestamp": "2026-11-21T00:00:00Z", "finalizers": ["agentpool.dev/clean"]},
            )
        ],
    ),
    "more HOT pods than allowed": (8, [pool(0.0), pod(1.0, "hot-1", "hot"), pod(2.0, "hot-2", "hot")]),
    "a child run that outlives its parent": (
        9,
        [Run(1.0, "parent", BEGAN), Run(2.0, "child", BEGAN, "parent"), Run(3.0, "parent", CANCELLED)],
    ),
    "a write at rest": (10, [Rest(2.0, 9.0), Wrote(3.0, "operator", "patch agentpools/status")]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_has_no_violation(name: str) -> None:
    assert check(GOOD[name], BOUNDS) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_violates_just_the_invariant_that_it_breaks(name: str) -> None:
    number, history = BAD[name]
    found = check(history, BOUNDS)
    assert found
    assert {one.split(":")[0] for one in found} == {f"invariant {number}"}


def test_every_invariant_has_a_history_that_breaks_it() -> None:
    assert {number for number, _ in BAD.values()} == set(INVARIANTS) == set(range(1, 11))


def test_the_order_of_recording_does_not_matter() -> None:
    number, history = BAD["two hosts serve one instance"]
    assert check(list(reversed(history)), BOUNDS)[0].startswith(f"invariant {number}")
