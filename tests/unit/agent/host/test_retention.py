# SPDX-License-Identifier: Apache-2.0
"""When a host looks for state that is too old."""

from __future__ import annotations

import pytest

from agentpool_agent.host.retention import LOOK_SECONDS, Retention
from agentpool_agent.store import MemoryStore
from agentpool_core.config import CheckpointConfig
from support.residents import START, HostRig, host_rig


class Shelf(MemoryStore):
    """Keeps what it is asked for."""

    def __init__(self) -> None:
        super().__init__("default", "support", clock=lambda: 1)
        self.asked: list[float] = []

    async def prune(self, older_than: float) -> int:
        self.asked.append(older_than)
        return 0


async def rig_with(store: Shelf, retention: int | None) -> HostRig:
    rig = await host_rig(store=store)
    assert rig.host.config is not None
    checkpoint = CheckpointConfig(retention_seconds=retention)
    rig.host.config = rig.host.config.model_copy(update={"checkpoint": checkpoint})
    return rig


async def run(rig: HostRig, seconds: int) -> None:
    retention = Retention(rig.host, lambda: 0.5)
    for _ in range(seconds):
        rig.now += 1.0
        retention.look(rig.now)
    await rig.settle()


async def test_it_looks_now_and_then_for_what_is_older_than_the_retention() -> None:
    store = Shelf()
    rig = await rig_with(store, 3600)
    await run(rig, 600)
    # The looks were begun in order, and all ran at the end.
    assert len(store.asked) == 600 // LOOK_SECONDS
    assert store.asked[0] == START + LOOK_SECONDS / 2 - 3600


@pytest.mark.parametrize(
    ("retention", "silent"),
    [
        pytest.param(None, False, id="nothing is too old without a retention"),
        pytest.param(3600, True, id="a silent store is not asked"),
    ],
)
async def test_it_does_not_look(retention: int | None, silent: bool) -> None:
    store = Shelf()
    rig = await rig_with(store, retention)
    rig.host.store_silent = silent
    await run(rig, 600)
    assert store.asked == []
