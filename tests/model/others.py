# SPDX-License-Identifier: Apache-2.0
"""What others than its holder may do to an instance, and what has to be true at any time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from agentpool_agent.store.base import IDEMPOTENCY_SECONDS
from agentpool_core.errors import AgentPoolError, InstanceNotFound, NotOwner
from agentpool_core.lifecycle import PauseReason, Wish
from agentpool_core.names import InstanceKey, tenant_hash

from .ownership import INSTANCES, KEYS, PODS
from .unheard import UnheardMachine


class OwnershipMachine(UnheardMachine):
    """Who holds what."""

    @rule(key=st.sampled_from(INSTANCES), wish=st.sampled_from([None, *Wish]))
    def wish(self, key: InstanceKey, wish: Wish | None) -> None:
        outcome = self.attempt(self.hosts[0].store.wish(key.instance_id, wish), InstanceNotFound)
        assert isinstance(outcome, AgentPoolError) or outcome.wish is wish

    @rule(key=st.sampled_from(INSTANCES), reason=st.sampled_from([None, *PauseReason]))
    def pause(self, key: InstanceKey, reason: PauseReason | None) -> None:
        outcome = self.attempt(self.hosts[0].store.pause(key.instance_id, reason), InstanceNotFound, NotOwner)
        if not isinstance(outcome, AgentPoolError):
            assert self.truths[key].holder is None and outcome.owner is None

    @rule(
        key=st.sampled_from(INSTANCES),
        pod=st.sampled_from(PODS),
        accused=st.sets(st.sampled_from(PODS), max_size=1),
    )
    def erase(self, key: InstanceKey, pod: str, accused: set[str]) -> None:
        truth, host = self.truths[key], self.current[pod]
        ended = frozenset(self.current[name].owner for name in accused)
        outcome = self.attempt(
            host.store.erase(key.instance_id, host.owner, ended), InstanceNotFound, NotOwner
        )
        if outcome is not None:
            return
        if truth.holder is not None and truth.holder.owner not in {host.owner, *ended}:
            assert truth.holder.owner.pod_uid == pod, "an instance was erased without proof"
        truth.forget()
        truth.acknowledged += 1  # what is on its way from before must not bring it back

    @rule(index=st.integers(0, 50))
    def reap(self, index: int) -> None:
        ended = self.hosts[index % len(self.hosts)].owner
        held = [truth for truth in self.truths.values() if truth.holder and truth.holder.owner == ended]
        outcome = self.attempt(self.hosts[0].store.reap(ended))
        assert isinstance(outcome, AgentPoolError) or outcome == len(held)
        for truth in held:
            truth.holder = None

    @rule()
    def recall(self) -> None:
        for key, truth in self.truths.items():
            for name, (stamp, final) in truth.finals.items():
                kept = self.run(self.hosts[0].store.recall(key.instance_id, name))
                if self.now - stamp <= IDEMPOTENCY_SECONDS * 1_000_000:
                    assert kept == final, "an acknowledged key was forgotten"
                else:
                    assert kept is None

    @invariant()
    def counts_equal_a_recount(self) -> None:
        if not getattr(self, "hosts", None):
            return
        records = self.run(self.hosts[0].store.list()).records
        owners, counts = self.run(
            self.client.pipeline([("ZRANGE", KEYS.owners, 0, -1), ("HGETALL", KEYS.counts)])
        )
        held = [record for record in records if record.owner is not None]
        recount: dict[bytes, bytes] = {}
        for record in held:
            for name in ("total", f"tier:{record.tier}", f"tenant:{tenant_hash(record.key.tenant_id)}"):
                recount[name.encode()] = str(int(recount.get(name.encode(), b"0")) + 1).encode()
        assert counts == recount, "the counts of the caps are wrong"
        assert set(owners) == {f"{record.owner}|{record.key.instance_id}".encode() for record in held}
        believed = {
            key: (truth.holder.owner, truth.holder.epoch)
            for key, truth in self.truths.items()
            if truth.holder
        }
        assert {record.key: (record.owner, record.epoch) for record in held} == believed
        for record in records:
            truth = self.truths[record.key]
            assert (record.tier, record.failures) == (truth.tier, truth.failures), "a field is another"
