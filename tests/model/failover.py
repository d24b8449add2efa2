# SPDX-License-Identifier: Apache-2.0
"""A replica that takes the master's place with what it had, and the machine that knows everything."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from agentpool_agent.store import Checkpoint, Claim, Ownership
from agentpool_agent.store.client import RedisClient
from agentpool_agent.store.scripts import assemble
from agentpool_core.errors import InstanceExists, NotOwner, StoreDataLost
from agentpool_core.lifecycle import Tier
from agentpool_core.names import InstanceKey

from .beyond import StateMachine
from .others import OwnershipMachine
from .ownership import PODS
from .world import Host, Truth


class FailoverMachine(OwnershipMachine):
    """Ownership, with a replica."""

    replica: tuple[dict[bytes, bytes], dict[InstanceKey, Truth]] | None = None

    def flushed(self) -> None:
        self.replica = None

    @rule()
    def the_replica_is_in_step(self) -> None:
        keys: list[bytes] = self.run(self.client.command("KEYS", "*"))
        dumps = self.run(self.client.pipeline([("DUMP", key) for key in keys])) if keys else []
        self.replica = (dict(zip(keys, dumps, strict=True)), copy.deepcopy(self.truths))

    @rule(pod=st.sampled_from(PODS))
    def the_replica_takes_over(self, pod: str) -> None:
        if self.replica is None:
            self.the_replica_is_in_step()
        assert self.replica is not None
        holders = self.true_holders()
        dumps, truths = self.replica
        self.run(self.client.command("FLUSHALL"))
        if dumps:
            self.run(self.client.pipeline([("RESTORE", key, 0, dump) for key, dump in dumps.items()]))
        self.late.clear()  # they were on their way to the other server
        for key, earlier in copy.deepcopy(truths).items():
            now = self.truths[key]
            earlier.highest_epoch, earlier.acknowledged = now.highest_epoch, now.acknowledged + 1
            earlier.writers, earlier.behind = now.writers, True
            self.truths[key] = earlier
        self.master += 1
        self.lost, self.lost_noticed = True, self.now
        self.run(self.hosts[0].network.greet_again())
        self.nobody_else_gets_in(self.current[pod], holders)
        uncertain = {id(host): set(host.uncertain) for host in self.hosts}
        for host, owned in holders:
            if owned.key in host.unheard:
                self.repeat(host, owned)
            else:
                self.register_as(host, owned)
            certain = owned.key not in uncertain[id(host)]
            assert owned.key in host.holds or not certain, (
                "a holder could not bring its state back after a failover"
            )

    def true_holders(self) -> list[tuple[Host, Ownership]]:
        found = []
        for host, owned in self.holders():
            truth = self.truths[owned.key].holder
            if truth is not None and (truth.owner, truth.epoch) == (owned.owner, owned.epoch):
                found.append((host, owned))
        return found

    def nobody_else_gets_in(self, other: Host, holders: list[tuple[Host, Ownership]]) -> None:
        for host, owned in holders:
            if host.owner.pod_uid == other.owner.pod_uid:
                continue
            ended = frozenset({owned.owner})
            id_ = owned.key.instance_id
            claim = Claim(owned.key, other.owner, Tier.WARM, ended=ended)
            attacks: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
                "claimed": partial(other.store.claim, claim),
                "erased": partial(other.store.erase, id_, other.owner, ended),
                "planted": partial(other.store.plant, owned.key, Tier.HOT, Checkpoint(), replace=True),
            }
            record = self.run(other.store.get(id_))
            if record is not None and record.owner == other.owner:
                continue
            for what, attack in attacks.items():
                outcome = self.attempt(attack(), NotOwner, InstanceExists)
                refused = isinstance(outcome, (StoreDataLost, NotOwner, InstanceExists))
                assert refused, f"after a failover an instance was {what} before its holder could register"


class StoreMachine(StateMachine, FailoverMachine):
    """The whole protocol."""


def machine(
    kind: type[OwnershipMachine],
    client: RedisClient,
    loop: asyncio.AbstractEventLoop,
    fragments: Mapping[str, str],
) -> type[OwnershipMachine]:
    """A machine of this kind on one server with the given Lua."""
    bound = {"client": client, "loop": loop, "scripts": assemble(fragments)}
    return type(f"Bound{kind.__name__}", (kind,), bound)
