# SPDX-License-Identifier: Apache-2.0
"""What the programs tell, and where results go."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from benchmarks.samples import machine

RESULTS = Path(__file__).parent / "results"


def say(text: str) -> None:
    """A line about what goes on, to the terminal of whoever waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def facts(shared: str) -> dict[str, str]:
    """Conditions that belong to every number; `shared` says what shares the cores."""
    return machine() | {
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "shared": shared,
    }


def nothing_said(told: dict[str, str], text: str, why: str) -> int:
    """The measured figures, and that they are the driver's own; nothing is written to a file. Exit code 2."""
    show("", told, text)
    sys.stdout.write(f"\nNothing can be said of the system: {why}.\n")
    return 2


def show(name: str, told: dict[str, str], text: str) -> None:
    """To the terminal and, if there is a name, to benchmarks/results/NAME.md."""
    head = "\n".join(f"{key}: {value}  " for key, value in told.items())
    whole = f"{head}\n\n{text}"
    sys.stdout.write(whole)
    if name:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.md").write_text(whole, encoding="utf-8")
