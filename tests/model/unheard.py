# SPDX-License-Identifier: Apache-2.0
"""Saves whose answer is lost, and that come again."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentpool_agent.store import Ownership, Write
from agentpool_core.errors import OwnershipLost, StoreDataLost, StoreUnavailable

from .ownership import PARTS, HoldersMachine
from .world import Host


class UnheardMachine(HoldersMachine):
    """Whatever happens in between, a save that comes again is made once, or its owner is told."""

    @precondition(lambda self: self.holders())
    @rule(pick=st.integers(0, 50), part=st.sampled_from(PARTS), at_once=st.booleans())
    def save_whose_answer_is_lost(self, pick: int, part: str, at_once: bool) -> None:
        host, owned = self.pick(pick)
        key, change = owned.key, {part: self.draw_bytes()}
        host.give_up(key)
        host.network.lose = True
        self.attempt(host.store.save(owned, Write(change)), StoreUnavailable)
        host.network.lose = False
        word = host.network.lost_reply[0]
        if word == b"OK":
            self.written(key, owned)
            self.changed(host, key, change)
        host.unheard[key] = change
        if at_once:
            self.repeat(host, owned)
            assert (key in host.holds) or word != b"OK", "a write was not recognised when it came again"

    @precondition(lambda self: self.unheard())
    @rule(pick=st.integers(0, 50))
    def save_again(self, pick: int) -> None:
        unheard = self.unheard()
        self.repeat(*unheard[pick % len(unheard)])

    def unheard(self) -> list[tuple[Host, Ownership]]:
        return [(host, owned) for host, owned in self.holders() if owned.key in host.unheard]

    def repeat(self, host: Host, owned: Ownership) -> None:
        """The same save once more: it is made now, or it was made before, or it never will be."""
        key, change = owned.key, host.unheard[owned.key]
        truth = self.truths[key]
        made = truth.has(change)
        outcome = self.attempt(host.store.save(owned, Write(change), again=True), OwnershipLost)
        if isinstance(outcome, StoreDataLost):
            self.register_as(host, owned)
        elif isinstance(outcome, OwnershipLost):
            host.drop(key)
        else:
            self.written(key, owned)
            if not made:
                self.changed(host, key, change)
            assert truth.state == host.state[key] | change, "a repetition changed more"
            self.acknowledged(host, key, change)
