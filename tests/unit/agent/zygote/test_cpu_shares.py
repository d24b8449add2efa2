# SPDX-License-Identifier: Apache-2.0
"""How a worker is held to its share of CPU: a simulation of the zygote's turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.zygote.boot import code_revision
from agentpool_agent.zygote.shares import BURST_SECONDS, REST_SECONDS, TURN_SECONDS, CpuShare


def simulate(share: CpuShare, cores_wanted: float, seconds: float) -> tuple[float, float]:
    """CPU seconds that a worker gets which wants so many cores all the time, and its longest rest."""
    now = spent = longest = rested = 0.0
    while now < seconds:
        now += TURN_SECONDS
        resting = share.resting_since is not None
        spent += 0.0 if resting else cores_wanted * TURN_SECONDS
        rested = rested + TURN_SECONDS if resting else 0.0
        longest = max(longest, rested)
        share.account(spent, now)
        share.turn(now)
    return spent, longest


@given(st.sampled_from([0.05, 0.25, 0.5, 1.0]), st.sampled_from([0.1, 1.0, 2.0]))
def test_steady_use_gets_the_share_and_what_was_saved_up(cores: float, wanted: float) -> None:
    spent, longest = simulate(CpuShare.full(cores, 0.0, 0.0), wanted, 200.0)
    allowed = cores * (200.0 + BURST_SECONDS)
    # A turn's length of work per rest is the least that can be had.
    least_turn = wanted * TURN_SECONDS * 200.0 / REST_SECONDS
    assert spent <= max(allowed, least_turn) + wanted * TURN_SECONDS
    assert spent >= min(wanted * 200.0, allowed) * 0.9
    assert longest <= REST_SECONDS + 2 * TURN_SECONDS


def test_a_worker_below_its_share_is_never_stopped() -> None:
    spent, longest = simulate(CpuShare.full(0.5, 0.0, 0.0), 0.4, 100.0)
    assert longest == 0
    assert spent == pytest.approx(40.0, rel=0.01)


def test_a_worker_that_calms_down_runs_on() -> None:
    share = CpuShare.full(0.5, 0.0, 0.0)
    simulate(share, 1.0, 60.0)
    assert not share.calm
    share.account(share.spent, share.at + 20.0)
    assert share.turn(share.at) in (None, False)
    assert share.calm


def test_a_jump_of_the_measured_time_does_not_stop_it_for_long() -> None:
    share = CpuShare.full(0.5, 0.0, 0.0)
    share.account(1000.0, 1.0)
    assert share.turn(1.0) is True
    share.account(1000.0, 1.0 + REST_SECONDS)
    assert share.turn(1.0 + REST_SECONDS) is False


def test_a_revision_changes_with_the_code_and_with_nothing_else() -> None:
    files = {"/a.py": (10, 5), "/b.py": (20, 6)}
    assert code_revision(files) == code_revision(dict(reversed(files.items())))
    assert code_revision(files) != code_revision({**files, "/b.py": (21, 6)})
    assert code_revision(files) != code_revision({**files, "/b.py": (20, 7)})
    assert code_revision(files) != code_revision({"/a.py": (10, 5)})
