# SPDX-License-Identifier: Apache-2.0
"""Tiers that follow traffic: what hosts report becomes few moves, within the caps, and none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentpool_core.api.v1alpha1 import Criticality
from agentpool_core.config import EffectivePool, TierConfig, TieringConfig
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.tiers import PoolFacts, TierMove, Traffics
from agentpool_operator.plan.views import HeldView
from support.builders import effective_pool
from support.kube_objects import NOW, held

POLICY = TieringConfig(hot_requests_per_minute=60, cold_idle_minutes=10, min_stay_seconds=300)
LOOK = 15.0


def pool(policy: TieringConfig = POLICY, max_hot: int = 100) -> EffectivePool:
    found = effective_pool()
    hot = TierConfig(tier=Tier.HOT, max_instances=max_hot, idle_seconds=None)
    return found.model_copy(update={"tiering": policy, "tiers": {**found.tiers, Tier.HOT: hot}})


def facts(config: EffectivePool, **changes: Any) -> PoolFacts:
    known: dict[str, Any] = {
        "held": Counter(),
        "hot_places": 10,
        "stays": frozenset(),
        "criticality": lambda _id: Criticality.NORMAL,
        "most": 5,
    }
    return PoolFacts(config, **(known | changes))


class World:
    """Instances whose requests come evenly; each move takes effect at once."""

    def __init__(self, policy: TieringConfig = POLICY, look: float = LOOK, **changes: Any) -> None:
        self.look = look
        self.traffic = Traffics()
        self.facts = facts(pool(policy), **changes)
        self.instances: dict[str, HeldView] = {}
        self.rates: dict[str, float] = {}
        self.moves: list[TierMove] = []
        self.now = 0.0

    def add(self, id_: str, per_minute: float, tier: Tier = Tier.WARM, **fields: Any) -> None:
        self.rates[id_] = per_minute
        self.instances[id_] = held(id_, tier=tier, last_used_at=NOW, **fields)

    def run(self, seconds: float) -> list[TierMove]:
        """The moves of that time."""
        before = len(self.moves)
        end = self.now + seconds
        while self.now < end:
            self.now += self.look
            self._serve()
            self.traffic.see(self.instances.values(), self.now)
            for move in self.traffic.plan(self.facts, self.now, NOW + self.now):
                self.moves.append(move)
                one = self.instances[move.id]
                self._change(one, tier=move.after, epoch=one.epoch + 1, total_requests=0)
        return self.moves[before:]

    def _serve(self) -> None:
        for one in list(self.instances.values()):
            gap = 60 / self.rates[one.id] if self.rates[one.id] else float("inf")
            served = int(self.now / gap) - int((self.now - self.look) / gap)
            if served:
                last = NOW + int(self.now / gap) * gap
                self._change(one, total_requests=one.total_requests + served, last_used_at=last)

    def _change(self, one: HeldView, **fields: Any) -> None:
        facts = {name: getattr(one, name) for name in HeldView.__dataclass_fields__}
        self.instances[one.id] = HeldView(**(facts | fields))


def tiers(moves: Sequence[TierMove]) -> list[Tier]:
    return [move.after for move in moves]


def test_an_instance_under_much_traffic_becomes_hot_once_and_stays_so() -> None:
    world = World()
    world.add("a", 120)
    (move,) = world.run(3600)
    assert (move.before, move.after) == (Tier.WARM, Tier.HOT)
    assert "120" in move.reason


def test_an_idle_instance_becomes_cold_and_warm_again_when_it_is_used() -> None:
    world = World()
    world.add("a", 0)
    assert tiers(world.run(1200)) == [Tier.COLD]
    world.rates["a"] = 5
    assert tiers(world.run(1200)) == [Tier.WARM]


def test_an_instance_that_left_its_host_is_remembered_until_it_is_cold() -> None:
    world = World()
    world.add("a", 6)
    assert world.run(400) == []
    del world.instances["a"], world.rates["a"]
    world.traffic.see([], world.now)
    late = world.traffic.plan(world.facts, world.now + 700, NOW + world.now + 700)
    assert tiers(late) == [Tier.COLD]


def test_the_hot_flag_keeps_a_project_out_of_hot_and_lets_it_warm_up() -> None:
    world = World(may_be_hot=lambda _tenant, project: project == "vip")
    world.add("busy", 100)
    world.add("cold", 100, tier=Tier.COLD)
    world.add("vip", 100)
    world.add("hot", 100, tier=Tier.HOT)
    moves = {(move.id, move.after) for move in world.run(900)}
    assert moves == {("vip", Tier.HOT), ("cold", Tier.WARM)}


def test_no_move_of_what_was_chosen_by_hand() -> None:
    world = World(criticality=lambda id_: None if id_ == "declared" else Criticality.NORMAL)
    world.add("declared", 120)
    world.add("pinned", 120, pinned=True)
    assert world.run(1200) == []


def test_high_goes_first_and_the_cap_on_hot_holds() -> None:
    config = pool(max_hot=2)
    traffic = Traffics()
    traffic.see([held(f"i-{n}", tier=Tier.WARM, last_used_at=NOW) for n in range(5)], 0.0)
    high = facts(config, criticality=lambda _id: Criticality.HIGH, held=Counter({Tier.HOT: 1}))
    assert [move.id for move in traffic.plan(high, 1.0, NOW)] == ["i-0"]


def test_no_more_hot_than_there_are_pods_to_take_them_except_where_the_own_pod_does() -> None:
    traffic = Traffics()
    traffic.see([held(f"i-{n}", tier=Tier.COLD, last_used_at=NOW) for n in range(3)], 0.0)
    high = facts(pool(), criticality=lambda _id: Criticality.HIGH, hot_places=0, stays=frozenset({"i-1"}))
    assert [move.id for move in traffic.plan(high, 1.0, NOW)] == ["i-1"]


def test_few_moves_at_once_and_a_failed_one_waits() -> None:
    traffic = Traffics()
    traffic.see([held(f"i-{n}", tier=Tier.WARM, last_used_at=NOW) for n in range(20)], 0.0)
    high = facts(pool(), criticality=lambda _id: Criticality.HIGH)
    first = traffic.plan(high, 1.0, NOW)
    assert len(first) == 5
    traffic.failed(first[0].id, 1.0)
    assert first[0].id not in [move.id for move in traffic.plan(high, 2.0, NOW)]
    assert first[0].id in [move.id for move in traffic.plan(high, 62.0, NOW)]


def test_no_more_instances_are_tracked_than_the_bound() -> None:
    traffic = Traffics(tracked=3)
    traffic.see([held(f"i-{n}", tier=Tier.WARM) for n in range(10)], 0.0)
    high = facts(pool(), criticality=lambda _id: Criticality.HIGH)
    assert len(traffic.plan(high, 1.0, NOW)) == 3


def test_a_starting_instance_is_not_judged() -> None:
    traffic = Traffics()
    traffic.see([held(state=State.INITIALIZING, tier=Tier.WARM)], 0.0)
    assert traffic.plan(facts(pool(), criticality=lambda _id: Criticality.HIGH), 1.0, NOW) == []


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(st.just(0.0), st.floats(0.02, 500)),
    st.sampled_from(Tier),
    st.builds(
        TieringConfig,
        hot_requests_per_minute=st.integers(1, 300),
        cold_idle_minutes=st.integers(1, 30),
        min_stay_seconds=st.floats(30, 600),
    ),
)
def test_constant_traffic_never_brings_an_instance_back_to_a_tier_it_left(
    per_minute: float, present: Tier, policy: TieringConfig
) -> None:
    world = World(policy, look=60.0)
    world.add("a", per_minute, present)
    left = [move.before for move in world.run(5400)]
    assert len(left) == len(set(left))
    assert not {world.instances["a"].tier} & set(left)
