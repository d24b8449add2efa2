# SPDX-License-Identifier: Apache-2.0
"""Names: one key, one id; ids fit Kubernetes; keys stay under their pool."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentpool_core.names import Incarnation, InstanceKey, StoreKeys, tenant_hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
KEYS = st.builds(InstanceKey, TEXT, TEXT, TEXT, TEXT)
KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@given(KEYS)
def test_an_id_is_a_kubernetes_name_and_always_the_same(key: InstanceKey) -> None:
    assert KUBERNETES_NAME.fullmatch(key.instance_id)
    assert re.fullmatch(r"inst-[a-z2-7]{26}", key.instance_id)
    twin = InstanceKey(key.namespace, key.pool, key.tenant_id, key.project_id)
    assert twin.instance_id == key.instance_id


@given(KEYS, KEYS)
def test_two_keys_have_two_ids(one: InstanceKey, other: InstanceKey) -> None:
    assume(one != other)
    assert one.instance_id != other.instance_id


@given(TEXT, TEXT, TEXT, st.integers(0, 20))
def test_moving_a_character_between_tenant_and_project_gives_another_id(
    namespace: str, pool: str, joined: str, cut: int
) -> None:
    cut %= len(joined) + 1
    here = InstanceKey(namespace, pool, joined[:cut], joined[cut:])
    there = InstanceKey(namespace, pool, joined, "")
    assert (here.instance_id == there.instance_id) == (cut == len(joined))


def test_an_id_never_changes_over_versions() -> None:
    key = InstanceKey("default", "support", "acme", "handbook")
    assert key.instance_id == "inst-b72l7ydkz3khiznpnpmezpboup"


@given(TEXT, st.integers(0, 2**63 - 1), st.binary(min_size=4, max_size=8))
def test_an_incarnation_survives_being_written_and_read(pod: str, time_ns: int, random: bytes) -> None:
    drawn = Incarnation.draw(pod, time_ns, random)
    assert Incarnation.parse(str(drawn)) == drawn


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.binary(min_size=4, max_size=4))
def test_later_lives_of_a_pod_sort_after_earlier_ones(one: int, other: int, random: bytes) -> None:
    assume(one != other)
    first, second = sorted((one, other))
    assert Incarnation.draw("pod", first, random) < Incarnation.draw("pod", second, b"\0\0\0\0")


@pytest.mark.parametrize("text", ["", "pod", "pod:nonce"])
def test_what_is_not_an_incarnation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an incarnation"):
        Incarnation.parse(text)


def test_all_keys_of_a_pool_lie_under_its_prefix_in_one_slot() -> None:
    keys = StoreKeys("uid-1")
    instance = "inst-abc"
    made = [
        keys.generation,
        keys.index,
        keys.owners,
        keys.counts,
        keys.record(instance),
        keys.checkpoint(instance),
        keys.previous(instance),
        keys.idempotency(instance),
        keys.idempotency_order(instance),
    ]
    assert all(key.startswith("ap:{uid-1}:") for key in made)
    assert len(set(made)) == len(made)


@given(TEXT, TEXT)
def test_a_tenants_stand_in_shows_nothing_of_its_name(one: str, other: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", tenant_hash(one))
    assert (tenant_hash(one) == tenant_hash(other)) == (one == other)
