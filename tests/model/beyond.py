# SPDX-License-Identifier: Apache-2.0
"""What the model knows beyond one ownership: the previous state, failure histories, tiers, export, import,
and what is removed because nobody used it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentpool_agent.store import Checkpoint, Ownership, Record
from agentpool_agent.store.base import RECOVERY_SECONDS
from agentpool_core.errors import (
    AgentPoolError,
    InstanceExists,
    InstanceNotFound,
    NotOwner,
    OwnershipLost,
    StateCorrupt,
)
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_core.names import InstanceKey

from .others import OwnershipMachine
from .ownership import INSTANCES, PARTS
from .world import Host


class PreviousMachine(OwnershipMachine):
    """The state before the last change, and the last one for everybody."""

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), part=st.sampled_from([None, *PARTS]))
    def recover_from_the_previous_state(self, pick: int, part: str | None) -> None:
        host, owned = self.pick(pick)
        self.recover_as(host, owned, part)

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), part=st.sampled_from(PARTS))
    def change_twice_and_recover(self, pick: int, part: str) -> None:
        host, owned = self.pick(pick)
        for _ in range(2):
            if owned.key in host.holds:
                self.save_as(host, host.holds[owned.key], part, False)
        if owned.key in host.holds:
            self.recover_as(host, host.holds[owned.key], None)

    def recover_as(self, host: Host, owned: Ownership, part: str | None) -> None:
        key, truth = owned.key, self.truths[owned.key]
        outcome = self.attempt(host.store.load(owned, previous=True), OwnershipLost, StateCorrupt)
        if isinstance(outcome, OwnershipLost):
            host.drop(key)
        elif isinstance(outcome, StateCorrupt):
            assert not truth.previous, "the previous state was not kept"
        elif isinstance(outcome, Checkpoint):
            assert dict(outcome.parts) == truth.previous, "the previous state is another"
            host.state[key] = dict(outcome.parts)
            host.back.add(key)
            host.heard(key)
            if part is not None:
                self.save_as(host, owned, part, False)
                self.read(key)

    @rule(key=st.sampled_from(INSTANCES))
    def read(self, key: InstanceKey) -> None:
        outcome = self.attempt(self.hosts[0].store.read(key.instance_id), InstanceNotFound)
        truth = self.truths[key]
        if isinstance(outcome, InstanceNotFound):
            assert truth.state is None, "a state is not found"
        elif isinstance(outcome, tuple):
            assert dict(outcome[1].parts) == truth.state, "another state is read than was acknowledged"


class StateMachine(PreviousMachine):
    """And whatever else may be done to an instance beside owning it."""

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), tier=st.sampled_from(Tier))
    def move(self, pick: int, tier: Tier) -> None:
        host, owned = self.pick(pick)
        self.release_as(host, owned, PauseReason.EVICTED, False, tier)

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50))
    def note(self, pick: int) -> None:
        host, owned = self.pick(pick)
        failures = self.draw_bytes()
        outcome = self.attempt(host.store.note(owned, failures), OwnershipLost)
        if isinstance(outcome, OwnershipLost):
            host.drop(owned.key)
        elif outcome is None:
            self.written(owned.key, owned)
            self.truths[owned.key].failures = failures
            host.holds[owned.key] = replace(owned, failures=failures)

    @rule(key=st.sampled_from(INSTANCES), tier=st.sampled_from(Tier))
    def place(self, key: InstanceKey, tier: Tier) -> None:
        outcome = self.attempt(self.hosts[0].store.place(key.instance_id, tier), InstanceNotFound, NotOwner)
        if isinstance(outcome, Record):
            truth = self.truths[key]
            assert truth.holder is None, "an instance was placed under its holder"
            truth.tier = tier

    @rule(key=st.sampled_from(INSTANCES), tier=st.sampled_from(Tier), over=st.booleans())
    def plant(self, key: InstanceKey, tier: Tier, over: bool) -> None:
        truth, parts = self.truths[key], {"x": self.draw_bytes()}
        call = self.hosts[0].store.plant(key, tier, Checkpoint(parts), replace=over)
        outcome = self.attempt(call, InstanceExists, NotOwner)
        if isinstance(outcome, NotOwner):
            assert truth.holder is not None
        elif isinstance(outcome, InstanceExists):
            assert truth.state is not None and not over
        elif isinstance(outcome, Record):
            assert truth.holder is None, "a state was planted under its holder"
            assert truth.state is None or over, "a state was replaced without being asked"
            assert not self.in_recovery(), "a state was planted before holders could register"
            assert outcome.epoch > truth.highest_epoch
            truth.highest_epoch, truth.failures, truth.finals = outcome.epoch, b"", {}
            truth.tier = tier if truth.state is None else truth.tier
            truth.replace(parts)
            truth.acknowledged += 1  # what is on its way from before must not change it

    @rule(seconds=st.sampled_from([0.0, 5.0, 100.0]))
    def prune(self, seconds: float) -> None:
        store, older_than = self.hosts[0].store, self.now / 1e6 - seconds
        before = {record.key: record for record in self.run(store.list()).records}
        outcome = self.attempt(store.prune(older_than))
        after = {record.key for record in self.run(store.list()).records}
        gone = [record for key, record in before.items() if key not in after]
        if isinstance(outcome, AgentPoolError):
            assert not gone
            return
        assert outcome == len(gone)
        for record in gone:
            assert record.owner is None, "a held instance was removed"
            assert record.updated_at < older_than, "an instance in use was removed"
            self.truths[record.key].forget()
            self.truths[record.key].acknowledged += 1
        kept = [before[key] for key in after]
        assert all(record.owner or record.updated_at >= older_than for record in kept)

    def in_recovery(self) -> bool:
        if not self.lost or self.lost_noticed is None:
            return False
        return self.now - self.lost_noticed < RECOVERY_SECONDS * 1_000_000 - 100
