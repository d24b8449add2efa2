# SPDX-License-Identifier: Apache-2.0
"""The checkpoint archive: the saved state of one instance as one file.

A gzip stream. Its first line is a JSON object, the manifest; after it the parts of the state follow one
after another, in the manifest's order, as many bytes each as the manifest says:

    {"format":"agentpool.checkpoint","version":1,...,"parts":[{"name":"notes","bytes":5,"sha256":"..."}]}\n
    hello

The same state and manifest give the same bytes. Reading is bounded whatever the file claims, and names of
parts are only ever keys of a mapping, never paths. Pure.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from agentpool_core.errors import InvalidRequest, PayloadTooLarge, StateTooLarge
from agentpool_core.lifecycle import Tier

MEDIA_TYPE = "application/vnd.agentpool.checkpoint+gzip"
FORMAT = "agentpool.checkpoint"
VERSION = 1

MAX_PARTS = 65_536
MANIFEST_BYTES = 16 * 1024 * 1024
"""Longest first line: room for the most parts with names of a hundred characters."""

_GZIP = 16 + zlib.MAX_WBITS
_REMEDY = "Export the instance again, and pass the file on unchanged."


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named part of the state."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds, and where it comes from. `created` is RFC 3339, UTC; `agent` the entry point
    (module:Class) that wrote the state."""

    format: str
    version: int
    namespace: str
    pool: str
    tenant_id: str
    project_id: str
    tier: Tier
    created: str
    agent: str
    parts: list[Part]

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        return sum(part.bytes for part in self.parts)


class _Head(msgspec.Struct, frozen=True):
    format: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a state comes from."""

    namespace: str
    pool: str
    tenant_id: str
    project_id: str
    tier: Tier
    agent: str


@dataclass(frozen=True, slots=True)
class Archive:
    """A state that was read, complete and with every digest checked."""

    manifest: Manifest
    parts: Mapping[str, bytes]


def archive_bytes(state_bytes: int) -> int:
    """The longest archive of a pool whose limits.stateBytes is this, packed or not."""
    return state_bytes + MANIFEST_BYTES


def pack(source: Source, created: datetime, parts: Mapping[str, bytes]) -> bytes:
    """The archive of a state; StateTooLarge when it has too many parts to be listed."""
    names = sorted(parts)
    manifest = Manifest(
        FORMAT,
        VERSION,
        source.namespace,
        source.pool,
        source.tenant_id,
        source.project_id,
        source.tier,
        created.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        source.agent,
        [Part(name, len(parts[name]), hashlib.sha256(parts[name]).hexdigest()) for name in names],
    )
    head = msgspec.json.encode(manifest)
    if len(names) > MAX_PARTS or len(head) >= MANIFEST_BYTES:
        raise StateTooLarge(
            f"The state has {len(names)} parts; an archive holds at most {MAX_PARTS} of them.",
            remedy="Let the agent keep its state in fewer parts.",
        )
    return gzip.compress(b"\n".join((head, b"".join(parts[name] for name in names))), mtime=0)


def unpack(data: bytes, state_bytes: int) -> Archive:
    """The state in an archive, of at most `state_bytes` bytes with the names of its parts.

    Raises:
        InvalidRequest: it is not an archive of a known version, or damaged.
        PayloadTooLarge: it holds more than that.
    """
    plain = _decompressed(data, archive_bytes(state_bytes))
    line = plain.find(b"\n", 0, MANIFEST_BYTES)
    if line < 0:
        raise _refused("it does not begin with a manifest")
    manifest = _manifest(plain[:line])
    size = manifest.size + sum(len(part.name) for part in manifest.parts)
    if size > state_bytes:
        raise PayloadTooLarge(
            f"The archive holds a state of {size} bytes; the pool takes {state_bytes}.",
            remedy="Raise limits.stateBytes of the pool, then import again.",
        )
    return Archive(manifest, _parts(manifest, memoryview(plain)[line + 1 :]))


def _decompressed(data: bytes, limit: int) -> bytes:
    unzip = zlib.decompressobj(_GZIP)
    try:
        plain = unzip.decompress(data, limit + 1)
    except zlib.error as exc:
        raise _refused("it is not an intact gzip file") from exc
    if len(plain) > limit:
        raise PayloadTooLarge(
            f"The archive unpacks to more than {limit} bytes.",
            remedy="Raise limits.stateBytes of the pool, then import again.",
        )
    if not unzip.eof:
        raise _refused("it ends too early")
    if unzip.unused_data:
        raise _refused("something follows its end")
    return plain


def _manifest(line: bytes) -> Manifest:
    try:
        head = msgspec.json.decode(line, type=_Head)
        if head.format != FORMAT:
            raise _refused("it is a file of another kind")
        if head.version != VERSION:
            raise InvalidRequest(
                f"The archive has version {head.version}; this release reads version {VERSION}.",
                remedy="Import it with the release that exported it, or export it again with this one.",
            )
        manifest = msgspec.json.decode(line, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _refused("its manifest cannot be read") from exc
    names = {part.name for part in manifest.parts}
    if len(names) != len(manifest.parts) or len(names) > MAX_PARTS:
        raise _refused("its manifest lists a part twice, or too many of them")
    if any(part.bytes < 0 for part in manifest.parts):
        raise _refused("its manifest gives a part a size below 0")
    return manifest


def _parts(manifest: Manifest, body: memoryview) -> dict[str, bytes]:
    if manifest.size != len(body):
        raise _refused("its parts have another size than its manifest says")
    parts: dict[str, bytes] = {}
    at = 0
    for part in manifest.parts:
        value = bytes(body[at : at + part.bytes])
        if hashlib.sha256(value).hexdigest() != part.sha256:
            raise _refused(f"the SHA-256 of its part {part.name[:64]!r} does not match")
        parts[part.name] = value
        at += part.bytes
    return parts


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"This is no archive that can be imported: {why}.", remedy=_REMEDY)
