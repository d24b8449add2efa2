# SPDX-License-Identifier: Apache-2.0
"""How parts, writes and records lie in Redis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.store import Checkpoint, Write, encoding
from agentpool_agent.store.sealing import seal
from agentpool_core.errors import StateCorrupt
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey


@given(st.dictionaries(st.text(), st.binary()), st.binary())
def test_what_was_sealed_comes_back(parts: dict[str, bytes], rate: bytes) -> None:
    fields = {f"part:{name}".encode(): seal(body) for name, body in parts.items()}
    assert encoding.checkpoint(fields | {b"rate": rate}) == Checkpoint(parts, rate)


def test_a_write_is_three_counted_lists() -> None:
    write = Write({"a": b"1"}, frozenset({"c", "b"}), {"key": b"final"}, b"rate")
    assert encoding.write_arguments(write) == [
        *(b"rate", 64, 600_000_000),
        *(1, "a", seal(b"1")),
        *(2, "b", "c"),
        *(1, "key", b"final"),
    ]


RECORDS = [
    pytest.param(
        {"owner": "pod/n", "wish": "Pause", "paused": ""},
        (Incarnation("pod", "n"), Wish.PAUSE, None),
        id="held, with a wish",
    ),
    pytest.param(
        {"owner": "", "wish": "", "paused": "Evicted"}, (None, None, PauseReason.EVICTED), id="evicted"
    ),
]


@pytest.mark.parametrize(("fields", "want"), RECORDS)
def test_a_record_is_read(fields: dict[str, str], want: tuple[object, ...]) -> None:
    fields = {
        "tenant": "t",
        "project": "p",
        "tier": "HOT",
        "epoch": "1700000000000001",
        "origin": "declared",
        "declared_uid": "u",
        "updated": "1500000",
    } | fields
    record = encoding.record("ns", "pool", {name.encode(): text.encode() for name, text in fields.items()})
    assert (record.owner, record.wish, record.paused) == want
    assert record.key == InstanceKey("ns", "pool", "t", "p")
    assert (record.tier, record.epoch, record.updated_at) == (Tier.HOT, 1_700_000_000_000_001, 1.5)
    assert (record.origin, record.declared_uid) == (Origin.DECLARED, "u")


KEPT = [
    pytest.param({b"part:a": b"0"}, {"a": b"0", "b": b"1"}, id="a replaced part"),
    pytest.param({b"part:a": b"0", b"none:b": b""}, {"a": b"0"}, id="an added part"),
    pytest.param({b"part:c": b"0"}, {"a": b"1", "b": b"1", "c": b"0"}, id="a removed part"),
]


@pytest.mark.parametrize(("kept", "want"), KEPT)
def test_the_previous_state_is_the_present_one_with_what_was_replaced(
    kept: dict[bytes, bytes], want: dict[str, bytes]
) -> None:
    present = {b"part:a": seal(b"1"), b"part:b": seal(b"1"), b"rate": b"bucket"}
    sealed = {field: seal(body) if body else b"" for field, body in kept.items()}
    found = encoding.previous(present, {**sealed, b"epoch": b"7"}, 7)
    assert found == Checkpoint(want, b"bucket")


def test_a_damaged_part_that_was_replaced_is_not_needed() -> None:
    kept = {b"epoch": b"7", b"part:a": seal(b"0")}
    assert encoding.previous({b"part:a": b"damaged"}, kept, 7).parts == {"a": b"0"}
    with pytest.raises(StateCorrupt, match="'b'"):
        encoding.previous({b"part:b": b"damaged"}, kept, 7)


NO_PREVIOUS = [
    pytest.param({}, id="nothing is kept"),
    pytest.param({b"epoch": b"6", b"part:a": seal(b"0")}, id="a host in between did not keep it"),
    pytest.param({b"epoch": b"7", b"none:a": b""}, id="it was empty"),
]


@pytest.mark.parametrize("kept", NO_PREVIOUS)
def test_without_a_previous_state_there_is_none(kept: dict[bytes, bytes]) -> None:
    with pytest.raises(StateCorrupt, match="no earlier"):
        encoding.previous({b"part:a": seal(b"1")}, kept, 7)
