# SPDX-License-Identifier: Apache-2.0
"""Cuts a stream of bytes back into frames."""

from __future__ import annotations

from agentpool_agent.wire.frames import LENGTH_BYTES, MAX_FRAME_BYTES


class FrameBuffer:
    """Collects received bytes and gives back the bodies of the frames that are complete.

    Args:
        max_frame_bytes: a longer announced frame raises ValueError, before any of it is kept.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._bytes = bytearray()

    @property
    def held_bytes(self) -> int:
        """Bytes of the frame that is not complete yet."""
        return len(self._bytes)

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; returns the bodies completed by them, in order."""
        self._bytes += data
        bodies: list[bytes] = []
        start = 0
        while len(self._bytes) - start >= LENGTH_BYTES:
            length = int.from_bytes(self._bytes[start : start + LENGTH_BYTES], "little")
            if length > self._max_frame_bytes:
                raise ValueError(f"frame of {length} bytes is over {self._max_frame_bytes}")
            end = start + LENGTH_BYTES + length
            if len(self._bytes) < end:
                break
            bodies.append(bytes(memoryview(self._bytes)[start + LENGTH_BYTES : end]))
            start = end
        if start:
            del self._bytes[:start]
        return bodies
