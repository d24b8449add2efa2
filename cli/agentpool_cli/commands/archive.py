# SPDX-License-Identifier: Apache-2.0
"""`agentpool export` and `agentpool import`: the saved state of an instance as a file."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from agentpool_cli.client import PoolClient, Progress
from agentpool_cli.commands.instances import instance_text
from agentpool_cli.connection import connected
from agentpool_cli.output import megabytes
from agentpool_core.archive import Archive, unpack
from agentpool_core.errors import AgentPoolError, InvalidRequest

STANDARD = "-"
"""Standard output or input in place of a file."""
MAX_STATE_BYTES = 1024 * 1024 * 1024
"""Most that is unpacked to check an archive; pools have limits of their own, which are lower."""


def export(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Write an archive that was checked to a file, whole or not at all."""
    with connected(options, environ) as connection, PoolClient(connection) as client:
        data = client.export(options.id, progress("exporting", sys.stderr))
    try:
        archive = unpack(data, MAX_STATE_BYTES)
    except InvalidRequest as exc:
        raise AgentPoolError("The archive arrived damaged.", remedy="Export again.") from exc
    if options.output == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_whole(Path(options.output), data)
    sys.stderr.write(f"exported {summary(archive)}\n")
    return 0


def plant(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Check an archive, make an instance from it, and print the instance."""
    data = read_archive(options.file)
    archive = unpack(data, MAX_STATE_BYTES)
    with connected(options, environ) as connection, PoolClient(connection) as client:
        instance = client.plant(target(options, archive), data, progress("importing", sys.stderr))
    sys.stdout.write(instance_text(instance, options.output, datetime.now(UTC)))
    sys.stderr.write(f"imported {summary(archive)}\n")
    return 0


def target(options: argparse.Namespace, archive: Archive) -> dict[str, str]:
    """The parameters of the call: what the options do not name is as in the archive, but for the tier."""
    named = {
        "tenant_id": archive.manifest.tenant_id if options.tenant is None else options.tenant,
        "project_id": archive.manifest.project_id if options.project is None else options.project,
        "replace": "true" if options.replace else "false",
    }
    return {**named, **({"tier": options.tier} if options.tier else {})}


def read_archive(file: str) -> bytes:
    """What a file or standard input holds; InvalidRequest when it cannot be read."""
    if file == STANDARD:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise InvalidRequest(
            f"{file} cannot be read: {exc.strerror}.", remedy="Name a file that export wrote."
        ) from exc


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, at once under its name or not at all."""
    draft: str | None = None
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        draft = None
    except OSError as exc:
        raise InvalidRequest(
            f"{path} cannot be written: {exc.strerror}.", remedy="Give --output a file that can be written."
        ) from exc
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)


def summary(archive: Archive) -> str:
    """What an archive holds, in one line."""
    manifest = archive.manifest
    size = megabytes(manifest.size) if manifest.size >= 100_000 else f"{manifest.size} bytes"
    whose = f"tenant {manifest.tenant_id}, project {manifest.project_id}"
    return f"{whose} of {manifest.namespace}/{manifest.pool}: {len(archive.parts)} parts, {size}"


def progress(doing: str, stream: TextIO) -> Progress:
    """Shows on a terminal how much has gone over the wire."""
    if not stream.isatty():
        return lambda _: None

    def show(size: int) -> None:
        stream.write(f"\r{doing} {size / 1e6:.1f} MB\r")
        stream.flush()

    return show
