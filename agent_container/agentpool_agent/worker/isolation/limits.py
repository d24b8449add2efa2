# SPDX-License-Identifier: Apache-2.0
"""Resource limits that the kernel enforces on a worker (`setrlimit`)."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator

from agentpool_agent.wire.frames import Limits

PROCESSES = 32_768
"""RLIMIT_NPROC counts all threads of the user, in all pods of the node that share the uid: far above what
healthy workers use together, it only stops one from filling the machine's process table before the zygote
sees it."""

THREAD_STACK_BYTES = 1024 * 1024
"""Stack of a new thread. It counts against the worker's memory from its start, and with the usual 8 MiB 32
threads would use up a small quota without one byte in use."""

_DATA = re.compile(rb"^VmData:\s+(\d+) kB", re.MULTILINE)
"""Compiled here, in the zygote: a worker that did so would write to many pages that it shares until then."""

_STATUS_BYTES = 8192
"""Longer than any status; `VmData` is in its first half."""


def data_bytes(status: bytes) -> int:
    """VmData of a `/proc/PID/status` text, in bytes; raises ValueError when it has none."""
    found = _DATA.search(status)
    if not found:
        raise ValueError("no VmData in /proc/self/status")
    return int(found.group(1)) * 1024


def wanted(limits: Limits, data_at_fork: int) -> Iterator[tuple[str, int, int]]:
    """Guard, resource and value, in the order in which they are set."""
    yield "limit-memory", resource.RLIMIT_DATA, data_at_fork + limits.memory_bytes
    yield "limit-descriptors", resource.RLIMIT_NOFILE, limits.descriptors
    yield "limit-file-size", resource.RLIMIT_FSIZE, limits.file_bytes
    yield "limit-processes", resource.RLIMIT_NPROC, PROCESSES
    yield "limit-core", resource.RLIMIT_CORE, 0


def own_data_bytes() -> int:
    """VmData of this process now, in bytes."""
    descriptor = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return data_bytes(os.read(descriptor, _STATUS_BYTES))
    finally:
        os.close(descriptor)


def set_limit(which: int, value: int) -> None:
    """Lower soft and hard limit to `value`, or to the present hard limit where that is lower already."""
    _, hard = resource.getrlimit(which)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))
