# SPDX-License-Identifier: Apache-2.0
"""The ownership protocol as a hypothesis state machine over the real Lua on a real redis-server.

Pods live, crash, restart and freeze (do nothing for a while and go on with what they believed); gateways hand
out true and false proofs; a message may be lost on its way back, or arrive later than its sender waited; the
store may lose its data. The machine holds what was acknowledged and compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agentpool_agent.store import Caps, Claim, Ownership, RedisStore, Write
from agentpool_agent.store.base import IDEMPOTENCY_SECONDS, RECOVERY_SECONDS
from agentpool_agent.store.calls import Calls
from agentpool_agent.store.client import RedisClient
from agentpool_agent.store.scripts import Script
from agentpool_core.errors import (
    AgentPoolError,
    InstancePaused,
    NotOwner,
    OwnershipLost,
    PoolExhausted,
    StoreDataLost,
    StoreUnavailable,
)
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_core.names import Incarnation, InstanceKey, StoreKeys

from .world import Host, Late, Network, Truth

PODS = ("pod-a", "pod-b", "pod-c")
INSTANCES = tuple(
    InstanceKey("ns", "pool", tenant, project)
    for tenant, project in (("t1", "p1"), ("t1", "p2"), ("t2", "p1"))
)
CAPS = Caps(total=2)
PARTS = ("x", "y")
KEYS = StoreKeys("model")
T = TypeVar("T")


class HoldersMachine(RuleBasedStateMachine):
    """Claims and writes of hosts. Subclasses made by `machine` say which server and which Lua."""

    client: RedisClient
    loop: asyncio.AbstractEventLoop
    scripts: Mapping[str, Script]

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @initialize()
    def start(self) -> None:
        self.run(self.client.command("FLUSHALL"))
        self.now, self.lives, self.number = 1_700_000_000_000_000, 0, 0
        self.lost_noticed: int | None = None
        self.truths = {key: Truth() for key in INSTANCES}
        self.late: list[Late] = []
        self.hosts: list[Host] = []
        self.current = {pod: self.new_life(pod) for pod in PODS}
        self.master = 1
        self.run(self.hosts[0].store.initialise())

    def new_life(self, pod: str) -> Host:
        self.lives += 1
        network = Network(self.client, self.greet, self.a_call_arrived)
        owner = Incarnation.draw(pod, self.lives, bytes(4))
        store = RedisStore(
            "unix:///unused",
            KEYS.pool_uid,
            "ns",
            "pool",
            clock=self.tick,
            client=network,  # type: ignore[arg-type]
            scripts=self.scripts,
            random=self.draw_name,
        )
        host = Host(owner, store, network)
        self.hosts.append(host)
        return host

    async def greet(self) -> None:
        """What the first connection to a master says to it."""
        calls = Calls(self.client, KEYS, self.scripts, self.tick, self.draw_name)
        await self.client.command(*calls.greeting(f"master-{self.master}:6379"))

    def tick(self) -> int:
        self.now += 1
        return self.now

    def draw_name(self) -> str:
        self.number += 1
        return f"g{self.number}"

    def draw_bytes(self) -> bytes:
        self.number += 1
        return str(self.number).encode()

    def attempt(self, call: Coroutine[Any, Any, T], *expected: type[AgentPoolError]) -> T | AgentPoolError:
        try:
            return self.run(call)
        except StoreDataLost as lost:
            return lost
        except expected as refused:
            return refused

    def a_call_arrived(self) -> None:
        """The store looks for its data at each call, whoever makes it and whatever comes of it."""
        if self.lost_noticed is None:
            self.lost_noticed = self.now

    def granted(self, key: InstanceKey, owned: Ownership) -> None:
        truth = self.truths[key]
        again = truth.holder is not None and (truth.holder.owner, truth.holder.epoch) == (
            owned.owner,
            owned.epoch,
        )
        if not again:
            assert owned.epoch > truth.highest_epoch, "an epoch did not grow"
            truth.tier = Tier.WARM
        truth.highest_epoch, truth.holder, truth.behind = owned.epoch, owned, False

    def written(self, key: InstanceKey, owned: Ownership) -> None:
        truth = self.truths[key]
        assert truth.writers.setdefault(owned.epoch, owned.owner) == owned.owner, "two owners of one epoch"
        assert truth.holder is not None, "a write was accepted though nobody holds the instance"
        assert (truth.holder.owner, truth.holder.epoch) == (owned.owner, owned.epoch), "a stale write"

    # Hosts: crash and restart; a frozen host is one that no rule happens to pick for a while.

    @rule(pod=st.sampled_from(PODS))
    def crash_and_restart(self, pod: str) -> None:
        self.current[pod].alive = False
        self.current[pod] = self.new_life(pod)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, IDEMPOTENCY_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)

    @rule()
    def the_store_loses_its_data(self) -> None:
        self.run(self.client.command("FLUSHALL"))
        self.lost_noticed = None
        self.lost = True
        for truth in self.truths.values():
            truth.forget()
        self.flushed()

    def flushed(self) -> None:
        """The data is gone."""

    lost = False

    # Claims, with proofs of gateways that may be wrong.

    @rule(
        pod=st.sampled_from(PODS),
        key=st.sampled_from(INSTANCES),
        accused=st.sets(st.sampled_from(PODS), max_size=2),
        resume=st.booleans(),
    )
    def claim(self, pod: str, key: InstanceKey, accused: set[str], resume: bool) -> None:
        host = self.current[pod]
        ended = frozenset(self.current[name].owner for name in accused)
        self.claim_as(host, key, ended, resume)

    @precondition(lambda self: self.ended())
    @rule(index=st.integers(0, 50), key=st.sampled_from(INSTANCES))
    def claim_of_an_earlier_life(self, index: int, key: InstanceKey) -> None:
        ended = self.ended()
        self.claim_as(ended[index % len(ended)], key, frozenset(), False)

    def ended(self) -> list[Host]:
        return [host for host in self.hosts if not host.alive]

    def claim_as(self, host: Host, key: InstanceKey, ended: frozenset[Incarnation], resume: bool) -> None:
        truth = self.truths[key]
        before = truth.holder
        resident = sum(other.holder is not None for other in self.truths.values())
        wanted = Claim(key, host.owner, Tier.WARM, CAPS, ended, resume)
        outcome = self.attempt(host.store.claim(wanted), NotOwner, InstancePaused, PoolExhausted)
        if not isinstance(outcome, Ownership):
            return
        if before is None:
            assert resident < (CAPS.total or 0), "a cap was passed"
        elif before.owner != host.owner:
            restarted = before.owner.pod_uid == host.owner.pod_uid and before.owner.nonce < host.owner.nonce
            assert restarted or before.owner in ended, "an owner was replaced without proof"
        if self.lost and (before is None or before.owner != host.owner):
            assert self.lost_noticed is not None, "a claim was won before the loss was noticed"
            assert self.now - self.lost_noticed >= RECOVERY_SECONDS * 1_000_000 - 100, "a claim in recovery"
        self.granted(key, outcome)
        self.load_into(host, outcome)

    def load_into(self, host: Host, owned: Ownership) -> None:
        key, truth = owned.key, self.truths[owned.key]
        loaded = self.run(host.store.load(owned))
        assert dict(loaded.parts) == (truth.state or {}), "an acknowledged change was lost"
        assert owned.fresh == (not loaded.parts)
        truth.state = dict(loaded.parts)
        assert owned.failures == truth.failures, "a failure history was lost"
        host.holds[key], host.state[key] = owned, dict(loaded.parts)
        host.back.discard(key)
        host.heard(key)

    # Writes of holders, fresh or stale.

    def holders(self) -> list[tuple[Host, Ownership]]:
        return [(host, owned) for host in self.hosts for owned in host.holds.values()]

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), part=st.sampled_from(PARTS), keyed=st.booleans())
    def save(self, pick: int, part: str, keyed: bool) -> None:
        self.save_as(*self.pick(pick), part, keyed)

    def save_as(self, host: Host, owned: Ownership, part: str, keyed: bool) -> None:
        key, body = owned.key, self.draw_bytes()
        host.give_up(key)
        finals = {f"k{body.decode()}": body} if keyed else {}
        outcome = self.attempt(host.store.save(owned, Write({part: body}, finals=finals)), OwnershipLost)
        if isinstance(outcome, StoreDataLost):
            self.register_as(host, owned)
        elif isinstance(outcome, OwnershipLost):
            host.drop(key)
        else:
            self.written(key, owned)
            truth = self.truths[key]
            self.changed(host, key, {part: body})
            self.acknowledged(host, key, {part: body})
            truth.finals |= {name: (self.now, final) for name, final in finals.items()}

    def changed(self, host: Host, key: InstanceKey, change: dict[str, bytes]) -> None:
        """The store made it."""
        truth = self.truths[key]
        base = truth.previous if key in host.back else truth.state
        assert (base or {}) == host.state[key], "a change was written on top of another state"
        truth.change(dict(base or {}), change)

    def acknowledged(self, host: Host, key: InstanceKey, change: dict[str, bytes]) -> None:
        """Its owner knows that the store made it."""
        host.state[key] |= change
        host.back.discard(key)
        host.heard(key)
        self.truths[key].acknowledged += 1

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), part=st.sampled_from(PARTS))
    def save_without_an_answer(self, pick: int, part: str) -> None:
        host, owned = self.pick(pick)
        change = {part: self.draw_bytes()}
        host.give_up(owned.key)
        self.send_late(host, owned.key, host.store.save(owned, Write(change)), change)
        host.unheard[owned.key] = change

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50))
    def release_without_an_answer(self, pick: int) -> None:
        host, owned = self.pick(pick)
        self.send_late(host, owned.key, host.store.release(owned, PauseReason.EVICTED), None)
        host.drop(owned.key)

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50))
    def register_without_an_answer(self, pick: int) -> None:
        host, owned = self.pick(pick)
        whole = dict(host.state[owned.key])
        self.send_late(host, owned.key, host.store.register(owned, Write(whole)), whole)

    def send_late(
        self, host: Host, key: InstanceKey, call: Coroutine[Any, Any, Any], change: dict[str, bytes] | None
    ) -> None:
        host.network.hold = True
        self.attempt(call, StoreUnavailable)
        host.network.hold = False
        message = host.network.held.pop()
        back = key in host.back
        self.late.append(Late(host, key, message, change, self.truths[key].acknowledged, back))

    @precondition(lambda self: self.late)
    @rule(pick=st.integers(0, 50))
    def a_late_message_arrives(self, pick: int) -> None:
        late = self.late.pop(pick % len(self.late))
        truth = self.truths[late.key]
        reply = self.run(late.host.network.deliver(late.message, self.tick()))
        if reply[0] != b"OK":
            return
        name, epoch = late.message[0].name, int(late.message[2][5])
        if name == "register":
            self.registered_late(late, int(reply[1]), reply[2].decode())
            return
        assert truth.holder is not None, "a late write was accepted though nobody holds the instance"
        assert (str(truth.holder.owner), truth.holder.epoch) == (late.message[2][4], epoch), (
            "a late, stale write"
        )
        if name == "release":
            truth.holder = None
            return
        if truth.has(late.change or {}):
            return  # it came again meanwhile, and finds itself made
        assert truth.acknowledged == late.acknowledged, "a late write took back an acknowledged change"
        truth.change(dict(truth.previous if late.back else truth.state or {}), late.change or {})

    def registered_late(self, late: Late, epoch: int, generation: str) -> None:
        truth = self.truths[late.key]
        if truth.state is not None:
            assert truth.acknowledged == late.acknowledged, "a late registration took back a change"
        if truth.state is None or not truth.failures:
            truth.failures = bytes(late.message[2][15])  # type: ignore[arg-type]
        owned = Ownership(late.key, late.host.owner, epoch, Tier.WARM, generation)
        self.granted(late.key, owned)
        truth.replace(late.change or {})

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50))
    def register(self, pick: int) -> None:
        host, owned = self.pick(pick)
        self.register_as(host, owned)

    def register_as(self, host: Host, owned: Ownership) -> None:
        key, truth = owned.key, self.truths[owned.key]
        before = truth.holder
        outcome = self.attempt(host.store.register(owned, Write(host.state[key])), OwnershipLost)
        if not isinstance(outcome, Ownership):
            host.drop(key)
            return
        if not truth.behind:
            assert before is None or before.owner == owned.owner, "a registration replaced somebody else"
            if truth.state is not None:
                kept = truth.state == host.state[key] or before is not None
                assert kept, "a registration took back a change"
        if truth.state is None or not truth.failures:
            truth.failures = owned.failures
        self.granted(key, outcome)
        truth.replace(host.state[key])
        host.holds[key] = replace(outcome, failures=truth.failures)
        host.back.discard(key)
        host.heard(key)

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), reason=st.sampled_from(PauseReason), clear=st.booleans())
    def release(self, pick: int, reason: PauseReason, clear: bool) -> None:
        host, owned = self.pick(pick)
        self.release_as(host, owned, reason, clear, None)

    def release_as(
        self, host: Host, owned: Ownership, reason: PauseReason, clear: bool, tier: Tier | None
    ) -> None:
        call = host.store.release(owned, reason, clear_wish=clear, tier=tier)
        outcome = self.attempt(call, OwnershipLost)
        if isinstance(outcome, StoreDataLost):
            self.register_as(host, owned)
            return
        if outcome is None:
            self.written(owned.key, owned)
            truth = self.truths[owned.key]
            truth.holder, truth.tier = None, tier or truth.tier
        host.drop(owned.key)

    def pick(self, number: int) -> tuple[Host, Ownership]:
        holders = self.holders()
        return holders[number % len(holders)]
