# SPDX-License-Identifier: Apache-2.0
"""One valid call of every operation of a store, for tests that ask how each of them fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agentpool_agent.store import Checkpoint, Claim, Ownership, Store, Write
from agentpool_core.lifecycle import PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey, StoreKeys

A1, B1 = Incarnation("pod-a", "0001"), Incarnation("pod-b", "0001")
KEY = InstanceKey("ns", "pool", "tenant", "project")
CLAIM = Claim(KEY, A1, Tier.WARM)
KEYS = StoreKeys("pool-uid")

CALLS: dict[str, Callable[[Store, Ownership], Awaitable[object]]] = {
    "initialise": lambda store, owned: store.initialise(),
    "claim": lambda store, owned: store.claim(CLAIM),
    "load": lambda store, owned: store.load(owned),
    "save": lambda store, owned: store.save(owned, Write({"a": b"1"})),
    "register": lambda store, owned: store.register(owned, Write()),
    "recall": lambda store, owned: store.recall(KEY.instance_id, "key"),
    "load of the previous state": lambda store, owned: store.load(owned, previous=True),
    "note": lambda store, owned: store.note(owned, b"failures"),
    "place": lambda store, owned: store.place(KEY.instance_id, Tier.HOT),
    "read": lambda store, owned: store.read(KEY.instance_id),
    "plant": lambda store, owned: store.plant(KEY, Tier.WARM, Checkpoint(), replace=True),
    "prune": lambda store, owned: store.prune(0),
    "release": lambda store, owned: store.release(owned, PauseReason.EVICTED),
    "pause": lambda store, owned: store.pause(KEY.instance_id, None),
    "wish": lambda store, owned: store.wish(KEY.instance_id, Wish.PAUSE),
    "mark": lambda store, owned: store.mark(KEY.instance_id, pinned=True),
    "erase": lambda store, owned: store.erase(KEY.instance_id, A1),
    "reap": lambda store, owned: store.reap(A1),
    "get": lambda store, owned: store.get(KEY.instance_id),
    "list": lambda store, owned: store.list(),
    "flags": lambda store, owned: store.flags.read(0),
    "replaced flags": lambda store, owned: store.flags.replace(0, b"[]"),
    "ping": lambda store, owned: store.ping(),
    "problems": lambda store, owned: store.problems(),
}
