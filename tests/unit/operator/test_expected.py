# SPDX-License-Identifier: Apache-2.0
"""Pods that were made count before any list shows them, and not for ever."""

from __future__ import annotations

import pytest

from agentpool_core.cluster import ROLE_GENERIC, ROLE_HOT
from agentpool_operator.plan.expected import FORGET_SECONDS, Expected
from agentpool_operator.plan.generic import plan_generic
from support.kube_objects import NOW, host, pod


def test_what_was_made_counts_until_a_list_shows_it() -> None:
    expected = Expected()
    expected.add("a", ROLE_GENERIC, 0.0)
    expected.add("b", ROLE_GENERIC, 0.0)
    expected.seen([pod("a")], 1.0)
    assert expected.waiting(ROLE_GENERIC) == 1
    assert expected.waiting(ROLE_HOT) == 0


def test_what_was_refused_does_not_count() -> None:
    expected = Expected()
    expected.add("a", ROLE_GENERIC, 0.0)
    expected.refused("a")
    assert expected.waiting(ROLE_GENERIC) == 0


def test_what_no_list_ever_shows_is_given_up() -> None:
    expected = Expected()
    expected.add("a", ROLE_GENERIC, 0.0)
    assert expected.again_after(5.0) == pytest.approx(FORGET_SECONDS - 5)
    expected.seen([], FORGET_SECONDS + 1)
    assert (expected.waiting(ROLE_GENERIC), expected.again_after(0.0)) == (0, None)


def test_an_own_pod_counts_for_its_instance_alone() -> None:
    expected = Expected()
    expected.add("a", ROLE_HOT, 0.0, "inst-1")
    assert (expected.instances(), expected.waiting(ROLE_HOT)) == (frozenset({"inst-1"}), 0)


def test_an_old_list_does_not_make_pods_twice() -> None:
    """The list that the first run saw comes again, many times; the pods come into it late, one by one."""
    expected, made = Expected(), [pod("first")]
    hosts = {one.uid: host(one) for one in made}
    for step in range(20):
        now = step * 0.5
        shown = made[: 1 + step // 4]
        expected.seen(shown, now)
        plan = plan_generic(shown, hosts, 4, "new", NOW, expected=expected.waiting(ROLE_GENERIC))
        for _ in range(plan.create):
            name = f"p{len(made)}"
            expected.add(name, ROLE_GENERIC, now)
            made.append(pod(name, ready=False, phase="Pending"))
    assert len(made) == 4
