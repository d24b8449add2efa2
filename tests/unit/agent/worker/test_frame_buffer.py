# SPDX-License-Identifier: Apache-2.0
"""Frames cut back out of a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.wire.assembly import FrameBuffer


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 20), min_size=1))
def test_bodies_come_out_as_they_went_in_however_the_stream_is_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(len(body).to_bytes(4, "little") + body for body in bodies)
    buffer, found, at, turn = FrameBuffer(), list[bytes](), 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        found += buffer.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == bodies
    assert buffer.held_bytes == 0


def test_a_frame_that_is_too_long_is_refused_at_its_length() -> None:
    with pytest.raises(ValueError, match="over 10"):
        FrameBuffer(max_frame_bytes=10).feed((11).to_bytes(4, "little"))
