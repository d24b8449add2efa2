# SPDX-License-Identifier: Apache-2.0
"""How one part of a state lies in Redis: compressed where that makes it smaller, with a digest.

    plain:       SHA-256 of the body, body
    compressed:  b"\\xffAP", format (1 byte), SHA-256 of these four bytes and the rest, rest: zlib of the body

A reader that meets a later format refuses it as not readable, which is no damage: nothing is taken back.
"""

from __future__ import annotations

import hashlib
import zlib

from agentpool_core.errors import AgentCreationFailed, StateCorrupt

COMPRESSED_FROM = 1024
"""Bytes; of smaller bodies the overhead of a hash field is the larger share."""

LEVEL = 1
"""Of zlib: text shrinks to 40 % at 8 ms for 1 MB; higher levels take several times as long for little."""

SAMPLE_BYTES = 4096
"""From the middle of a body: what does not shrink here (images, ciphertext) is not tried as a whole."""

WORTH = 0.9
"""A compressed body is kept when it is smaller than this share of the plain one."""

_MARK = b"\xffAP"
_ZLIB = 1
_DIGEST_BYTES = hashlib.sha256().digest_size
_HEAD_BYTES = len(_MARK) + 1


def seal(body: bytes) -> bytes:
    """The part as it is stored."""
    if len(body) >= COMPRESSED_FROM and _shrinks(body):
        packed = zlib.compress(body, LEVEL)
        if len(packed) < WORTH * len(body):
            head = _MARK + bytes((_ZLIB,))
            return b"".join((head, _digest(head, packed), packed))
    return b"".join((_digest(body), body))


def unseal(name: str, sealed: bytes) -> bytes:
    """The part as it was.

    Raises:
        StateCorrupt: it is not what was stored.
        AgentCreationFailed: a later version of the product stored it.
    """
    if sealed.startswith(_MARK):
        head, packed = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES + _DIGEST_BYTES :]
        if _digest(head, packed) == sealed[_HEAD_BYTES : _HEAD_BYTES + _DIGEST_BYTES]:
            return _unpack(name, head[-1], packed)
    # The digest of a plain body may begin with the mark by chance.
    body = sealed[_DIGEST_BYTES:]
    if _digest(body) != sealed[:_DIGEST_BYTES]:
        raise StateCorrupt(f"The stored part {name!r} is damaged: its SHA-256 does not match.")
    return body


def _unpack(name: str, kind: int, packed: bytes) -> bytes:
    if kind != _ZLIB:
        raise AgentCreationFailed(
            f"The stored part {name!r} has format {kind}, which this host does not read.",
            remedy="Run the version of AgentPool that stored it, or a later one; the state is kept.",
        )
    try:
        return zlib.decompress(packed)
    except zlib.error as exc:
        raise StateCorrupt(f"The stored part {name!r} is damaged: {exc}.") from exc


def _shrinks(body: bytes) -> bool:
    if len(body) <= 2 * SAMPLE_BYTES:
        return True
    middle = len(body) // 2
    sample = body[middle : middle + SAMPLE_BYTES]
    return len(zlib.compress(sample, LEVEL)) < WORTH * len(sample)


def _digest(*pieces: bytes) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
