# SPDX-License-Identifier: Apache-2.0
"""Checkpoint archives: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.archive import MANIFEST_BYTES, MAX_PARTS, Archive, Source, pack, unpack
from agentpool_core.errors import InvalidRequest, PayloadTooLarge, StateTooLarge
from agentpool_core.lifecycle import Tier

SOURCE = Source("default", "support", "acme", "returns", Tier.WARM, "agents:Support")
CREATED = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
STATE = {"notes": b"hello", "count": b"7"}
LIMIT = 1024
names = st.text(st.characters(codec="utf-8"), max_size=20)


def read(data: bytes, limit: int = LIMIT) -> Archive:
    return unpack(data, limit)


def lines(data: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = gzip.decompress(data).partition(b"\n")
    return json.loads(head), body


def rebuilt(head: object, body: bytes) -> bytes:
    return gzip.compress(json.dumps(head).encode() + b"\n" + body)


@given(st.dictionaries(names, st.binary(max_size=200), max_size=8))
def test_every_state_comes_back_as_it_was(parts: dict[str, bytes]) -> None:
    found = unpack(pack(SOURCE, CREATED, parts), 10_000)
    assert dict(found.parts) == parts
    assert found.manifest.size == sum(map(len, parts.values()))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read_and_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(data)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_damaged_byte_changes_what_is_read(at: int, flip: int) -> None:
    whole = bytearray(pack(SOURCE, CREATED, STATE))
    whole[at % len(whole)] ^= flip
    try:
        found = read(bytes(whole))
    except InvalidRequest:
        return
    # The few bytes of a gzip header that say nothing about the content.
    assert dict(found.parts) == STATE


def test_the_manifest_says_where_it_comes_from() -> None:
    made = datetime(2026, 3, 1, 14, 0, 5, 999, tzinfo=timezone(timedelta(hours=2)))
    head, body = lines(pack(SOURCE, made, STATE))
    assert body == b"7hello"
    parts = head.pop("parts")
    assert [(one["name"], one["bytes"]) for one in parts] == [("count", 1), ("notes", 5)]
    assert head == {
        "format": "agentpool.checkpoint",
        "version": 1,
        "namespace": "default",
        "pool": "support",
        "tenant_id": "acme",
        "project_id": "returns",
        "tier": "WARM",
        "created": "2026-03-01T12:00:05Z",
        "agent": "agents:Support",
    }


def test_the_same_state_gives_the_same_bytes_whatever_its_order() -> None:
    turned = dict(reversed(STATE.items()))
    assert pack(SOURCE, CREATED, STATE) == pack(SOURCE, CREATED, turned)


def changed(**fields: object) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        head, body = lines(data)
        return rebuilt({**head, **fields}, body)

    return change


def without_tier(data: bytes) -> bytes:
    head, body = lines(data)
    del head["tier"]
    return rebuilt(head, body)


def other_body(data: bytes) -> bytes:
    head, _ = lines(data)
    return rebuilt(head, b"8hello")


def twice(data: bytes) -> bytes:
    head, body = lines(data)
    return rebuilt({**head, "parts": head["parts"] * 2}, body * 2)


NEGATIVE = [{"name": "a", "bytes": -1, "sha256": ""}, {"name": "b", "bytes": 7, "sha256": ""}]
CASES = [
    pytest.param(lambda data: data[:-1], "ends too early", id="cut off by a byte"),
    pytest.param(lambda data: data + b"x", "follows its end", id="a byte too many"),
    pytest.param(lambda data: data + data, "follows its end", id="two archives in one file"),
    pytest.param(gzip.decompress, "not an intact gzip", id="unpacked already"),
    pytest.param(lambda data: gzip.compress(b"text"), "begin with a manifest", id="some other gzip file"),
    pytest.param(lambda data: gzip.compress(b"[1]\n"), "cannot be read", id="a manifest that is a list"),
    pytest.param(lambda data: gzip.compress(b"\xff\n"), "cannot be read", id="a manifest that is no text"),
    pytest.param(changed(format="tar"), "another kind", id="another format"),
    pytest.param(changed(version=2), "version 2", id="a later version"),
    pytest.param(changed(extra=1), "cannot be read", id="an unknown field"),
    pytest.param(changed(tier="LUKEWARM"), "cannot be read", id="an unknown tier"),
    pytest.param(without_tier, "cannot be read", id="a field missing"),
    pytest.param(changed(parts=[]), "another size", id="parts that are not listed"),
    pytest.param(changed(parts=NEGATIVE), "below 0", id="a part of negative size"),
    pytest.param(other_body, "SHA-256 of its part 'count'", id="a part exchanged"),
    pytest.param(twice, "lists a part twice", id="a name used twice"),
]


@pytest.mark.parametrize(("change", "why"), CASES)
def test_what_is_no_intact_archive_is_refused_with_the_reason(
    change: Callable[[bytes], bytes], why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        read(change(pack(SOURCE, CREATED, STATE)))
    assert refused.value.hint


def test_a_state_over_the_limit_is_refused_names_included() -> None:
    size = sum(len(name) + len(value) for name, value in STATE.items())
    data = pack(SOURCE, CREATED, STATE)
    assert read(data, size).parts == STATE
    with pytest.raises(PayloadTooLarge, match=f"state of {size} bytes; the pool takes {size - 1}") as refused:
        read(data, size - 1)
    assert "limits.stateBytes" in refused.value.hint


def test_a_bomb_is_not_unpacked_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(5 * MANIFEST_BYTES), 1)
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            read(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 * MANIFEST_BYTES


def test_too_many_parts_are_not_exported() -> None:
    with pytest.raises(StateTooLarge, match="65537 parts"):
        pack(SOURCE, CREATED, {str(number): b"" for number in range(MAX_PARTS + 1)})
