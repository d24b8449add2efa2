# SPDX-License-Identifier: Apache-2.0
"""The number of requests for which a host's agents have cores, found from what the kernel measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.crowding import CrowdLimit, Spell

CORES, FLOOR, CEILING = 2, 6, 10_000
LOOK = 0.1


def looked(spells: list[Spell], ended: int, cores: int = CORES) -> CrowdLimit:
    limit = CrowdLimit(cores, FLOOR, CEILING)
    for _ in range(50):
        limit.observe(LOOK, spells, ended)
    return limit


def sharing(workers: int, requests: float = 1.0, cores: float = CORES) -> list[Spell]:
    """So many workers that could compute all the time share the cores."""
    part = min(1.0, cores / workers)
    return [Spell(requests, part * LOOK, (1 - part) * LOOK)] * workers


def at_ease(workers: int, requests: float, computing: float) -> list[Spell]:
    """So many workers whose requests compute for that part of their time, and find a core at once."""
    return [Spell(requests, requests * computing * LOOK, 0.0)] * workers


CASES = [
    # What is under way may be worth 0.175 s of both cores: 7 requests of 50 ms.
    ("sixteen that compute for 50 ms", sharing(16), 4, 7, 7),
    ("ten in each of sixteen that compute", sharing(16, requests=10), 4, 7, 7),
    ("sixteen that compute for seconds", sharing(16), 0, FLOOR, FLOOR),
    ("light ones in any burst", sharing(4), 400, 700, 700),
    ("as many as there are cores", sharing(2), 4, 7, 7),
    ("five hundred that wait for a model", at_ease(100, 5, 0.0002), 0, 9_000, CEILING),
    ("nobody computes", at_ease(10, 1, 0.0), 1, CEILING, CEILING),
    # Half of the cores are somebody else's: only so much work can be done.
    ("another one uses a core", sharing(16, cores=1), 4, 7, 8),
    ("a light one beside others that take most of the cores", [Spell(0.5, 0.004, 0.030)], 1, 10, 20),
    ("another one uses a core, heavier", sharing(32, cores=1), 1, FLOOR, FLOOR),
]


@pytest.mark.parametrize(
    ("spells", "ended", "least", "most"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_limit_is_what_the_cores_can_do_in_time(
    spells: list[Spell], ended: int, least: int, most: int
) -> None:
    assert least <= looked(spells, ended).limit <= most


def test_one_instance_that_computes_leaves_the_other_cores_to_the_others() -> None:
    one = [Spell(10, LOOK, 0.0)]
    assert looked(one, 0, cores=16).limit == 32


def test_a_burst_of_waiting_after_computing_is_let_in_within_seconds() -> None:
    limit = looked(sharing(16), 4)
    for _ in range(50):
        limit.observe(LOOK, at_ease(8, 1, 0.001), 0)
    assert limit.limit > 100


def test_what_is_forgotten_limits_nothing() -> None:
    limit = looked(sharing(16), 4)
    limit.forget()
    assert limit.limit == CEILING


spells = st.builds(
    Spell,
    requests=st.floats(0, 100),
    computed=st.floats(0, 1),
    waited=st.floats(0, 1),
)


@given(
    looks=st.lists(
        st.tuples(st.floats(0, 2), st.lists(spells, max_size=8), st.integers(0, 1000)), max_size=20
    )
)
def test_whatever_is_measured_the_limit_stays_within_its_bounds(
    looks: list[tuple[float, list[Spell], int]],
) -> None:
    limit = CrowdLimit(CORES, FLOOR, CEILING)
    for seconds, measured, ended in looks:
        limit.observe(seconds, measured, ended)
        assert FLOOR <= limit.limit <= CEILING
