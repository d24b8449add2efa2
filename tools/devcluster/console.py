# SPDX-License-Identifier: Apache-2.0
"""What the user sees: one line per step with the time it took. The only module that prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tools.devcluster.problem import Problem


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(text, flush=True)


def complain(problem: Problem) -> None:
    """Print a problem and its remedy to standard error."""
    print(f"error: {problem.message}\n  what to do: {problem.remedy}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print `title` before the work and its seconds after it, also when the work fails."""
    began = time.monotonic()
    print(f"{title} ... ", end="", flush=True)
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        print(f"{outcome} {time.monotonic() - began:.1f} s", flush=True)
