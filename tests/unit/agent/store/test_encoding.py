# SPDX-License-Identifier: Apache-2.0
"""How parts, writes and records lie in Redis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.store import Checkpoint, Write, encoding
from agentpool_core.errors import AgentCreationFailed
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey


@given(st.dictionaries(st.text(), st.binary()), st.binary())
def test_what_was_sealed_comes_back(parts: dict[str, bytes], rate: bytes) -> None:
    fields = {f"part:{name}".encode(): encoding.seal(body) for name, body in parts.items()}
    assert encoding.checkpoint(fields | {b"rate": rate}) == Checkpoint(parts, rate)


@given(st.binary(min_size=1), st.data())
def test_a_changed_bit_is_noticed(body: bytes, data: st.DataObject) -> None:
    sealed = bytearray(encoding.seal(body))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AgentCreationFailed, match="'memory'"):
        encoding.unseal("memory", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"short"], ids=["nothing is left", "the digest is cut"])
def test_a_truncated_part_is_noticed(sealed: bytes) -> None:
    with pytest.raises(AgentCreationFailed):
        encoding.unseal("memory", sealed)


def test_a_write_is_three_counted_lists() -> None:
    write = Write({"a": b"1"}, frozenset({"c", "b"}), {"key": b"final"}, b"rate")
    assert encoding.write_arguments(write) == [
        *(b"rate", 64, 600_000_000),
        *(1, "a", encoding.seal(b"1")),
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
