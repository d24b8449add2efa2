# SPDX-License-Identifier: Apache-2.0
"""What root may do here: in a container or a restricted machine it is less than everything."""

from __future__ import annotations

from pathlib import Path

CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24


def effective(status: str) -> int:
    """The effective capabilities of a /proc/PID/status as a bit mask."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)


def holds(capability: int) -> bool:
    """Whether this process has a capability."""
    return bool(effective(Path("/proc/self/status").read_text()) >> capability & 1)
