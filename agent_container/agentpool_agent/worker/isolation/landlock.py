# SPDX-License-Identifier: Apache-2.0
"""The files, ports and processes a worker can reach, by Landlock.

Landlock (Linux 5.13 and later) takes rights from the calling thread for good. What a kernel can do is its
ABI: 1 files, 2 renames between directories, 3 truncation, 4 TCP, 5 device control, 6 signals and abstract
sockets. UDP and named Unix sockets are not covered by it; the seccomp filter refuses these.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agentpool_agent.worker.isolation import kernel

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIRECTORY = 1 << 3
REFER = 1 << 13
TRUNCATE = 1 << 14
DEVICE_CONTROL = 1 << 15

BIND_TCP = 1 << 0
CONNECT_TCP = 1 << 1

SCOPE_ABSTRACT_SOCKET = 1 << 0
SCOPE_SIGNAL = 1 << 1

_FIRST_FILE_RIGHTS = (1 << 13) - 1
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_CONTROL
READ = READ_FILE | READ_DIRECTORY


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What is taken away: rights on files (given back by path), on TCP ports, and on other processes."""

    files: int
    network: int
    scopes: int

    def pack(self) -> bytes:
        """`struct landlock_ruleset_attr`, only as long as its fields need: old kernels refuse longer ones."""
        fields = [self.files]
        if self.network or self.scopes:
            fields.append(self.network)
        if self.scopes:
            fields.append(self.scopes)
        return struct.pack(f"={len(fields)}Q", *fields)


def file_rights(abi: int) -> int:
    """Every right on files that this ABI can take away."""
    rights = _FIRST_FILE_RIGHTS
    for since, right in ((2, REFER), (3, TRUNCATE), (5, DEVICE_CONTROL)):
        if abi >= since:
            rights |= right
    return rights


def pack_path_rule(rights: int, descriptor: int) -> bytes:
    """`struct landlock_path_beneath_attr`, packed."""
    return struct.pack("=Qi", rights, descriptor)


@dataclass(frozen=True, slots=True)
class Paths:
    """What stays reachable: `read` and everything under it, `write` (the worker's own directory) in full."""

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    execute: bool = False


def build(ruleset: Ruleset, paths: Paths) -> int:
    """A ruleset's descriptor, with the paths that stay reachable; restricts nothing yet. Raises OSError."""
    descriptor = kernel.landlock_ruleset(ruleset.pack())
    try:
        if ruleset.files:
            readable = (READ | (EXECUTE if paths.execute else 0)) & ruleset.files
            _allow(descriptor, paths.read, readable)
            _allow(descriptor, paths.write, ruleset.files & ~(0 if paths.execute else EXECUTE))
            _allow(descriptor, (Path("/dev/null"),), (READ_FILE | WRITE_FILE) & ruleset.files)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            mode = os.fstat(place).st_mode
            is_directory = (mode & 0o170000) == 0o040000
            granted = rights if is_directory else rights & _ON_FILES
            kernel.landlock_allow_path(ruleset, pack_path_rule(granted, place))
        finally:
            os.close(place)
