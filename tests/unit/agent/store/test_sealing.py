# SPDX-License-Identifier: Apache-2.0
"""How a part is compressed and guarded."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.store.sealing import COMPRESSED_FROM, seal, unseal
from agentpool_core.errors import AgentCreationFailed, StateCorrupt

NOISE = random.Random(1).randbytes(20_000)
TEXT = b" ".join(b"word%d" % (number % 97) for number in range(4000))
COMPRESSED_ZEROS = (
    "ff4150012f2de734983cdf2ec7d12c0c5d4bfdce7c716a65bc0a0d84119b9121f09791ab"
    "780163601805a321301a022335040004000001"
)
"""1024 zeros, as the first version that compressed stored them."""

BODIES = st.one_of(
    st.binary(),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=40), st.integers(1, 400)),
    st.integers(0, len(NOISE)).map(lambda size: NOISE[:size]),
)


@given(BODIES)
def test_what_was_sealed_comes_back_and_costs_little(body: bytes) -> None:
    sealed = seal(body)
    assert unseal("memory", sealed) == body
    assert len(sealed) <= len(body) + 36


@given(BODIES.filter(bool), st.data())
def test_a_changed_bit_is_noticed(body: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(body))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StateCorrupt, match="'memory'"):
        unseal("memory", bytes(sealed))


@given(BODIES, st.data())
def test_a_truncated_part_is_noticed(body: bytes, data: st.DataObject) -> None:
    sealed = seal(body)
    with pytest.raises(StateCorrupt):
        unseal("memory", sealed[: data.draw(st.integers(0, len(sealed) - 1))])


SIZES = [
    pytest.param(TEXT, 0.5, id="text is stored in less than half of its size"),
    pytest.param(NOISE, 1.01, id="noise is stored as it is"),
    pytest.param(TEXT[: COMPRESSED_FROM - 1], 1.1, id="a small body is stored as it is"),
    pytest.param(NOISE + TEXT * 2, 0.7, id="a body is judged by its middle"),
]


@pytest.mark.parametrize(("body", "share"), SIZES)
def test_a_body_is_stored_in_the_smaller_form(body: bytes, share: float) -> None:
    sealed = seal(body)
    assert len(sealed) <= share * len(body)
    assert unseal("memory", sealed) == body


OLD = [
    pytest.param(b"", id="an empty body"),
    pytest.param(TEXT, id="text"),
    pytest.param(NOISE, id="noise"),
]


@pytest.mark.parametrize("body", OLD)
def test_what_the_first_format_stored_is_read(body: bytes) -> None:
    assert unseal("memory", hashlib.sha256(body).digest() + body) == body


def test_stored_bytes_of_both_formats_are_read_for_ever() -> None:
    plain = bytes.fromhex("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae") + b"foo"
    packed = bytes.fromhex(COMPRESSED_ZEROS)
    assert unseal("memory", plain) == b"foo"
    assert unseal("memory", packed) == bytes(1024)


def test_a_later_format_is_no_damage() -> None:
    head, rest = b"\xffAP\x02", b"what a later version stored"
    with pytest.raises(AgentCreationFailed, match="format 2"):
        unseal("memory", head + hashlib.sha256(head + rest).digest() + rest)


def test_a_digest_that_begins_like_the_mark_is_a_digest() -> None:
    # Found by trying: SHA-256 of this body begins with the mark of the compressed form.
    body = b"5100452"
    digest = hashlib.sha256(body).digest()
    assert digest.startswith(b"\xffAP")
    assert unseal("memory", digest + body) == body
