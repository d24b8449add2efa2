# SPDX-License-Identifier: Apache-2.0
"""Percentiles of measured times, and the machine that they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles in milliseconds, by nearest rank: a value that was really seen, never an interpolation."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Summary:
        """Raises ValueError for no samples: a scenario without one has failed, not measured zero."""
        if not milliseconds:
            raise ValueError("no samples")
        ordered = sorted(milliseconds)
        return cls(
            count=len(ordered),
            p50=_nearest_rank(ordered, 0.50),
            p90=_nearest_rank(ordered, 0.90),
            p99=_nearest_rank(ordered, 0.99),
            max=ordered[-1],
        )


def _nearest_rank(ordered: Sequence[float], quantile: float) -> float:
    rank = max(1, -(-len(ordered) * int(quantile * 1000) // 1000))
    return ordered[rank - 1]


def machine() -> dict[str, str]:
    """What a reader needs to compare numbers: processor, cores, memory, kernel, Python."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
