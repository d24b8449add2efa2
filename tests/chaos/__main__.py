# SPDX-License-Identifier: Apache-2.0
"""Programs that break the release on the cluster of `.devcluster/env`, and say what its users saw."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.samples import machine
from chaos import campaign, report, scale, step, updates
from chaos.console import say
from chaos.history import Check
from support.repository import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def main() -> int:
    """Run one program; 1 when a demand is not held."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="of faults and load")
    programs = parser.add_subparsers(dest="program", required=True)
    faults = programs.add_parser("faults", help="kill one part after another")
    faults.add_argument("--seconds", type=float, default=600.0, help="how long")
    faults.add_argument("--every", type=float, default=10.0, help="seconds between faults, about")
    faults.add_argument("--factor", type=float, default=1.0, help="of the usual load")
    faults.add_argument("--only", default="", help="faults whose name holds this; nothing is written")
    updates_ = programs.add_parser("updates", help="new configuration, new image, drain")
    updates_.add_argument("--factor", type=float, default=1.0, help="of the usual load")
    updates_.add_argument("--only", default="", help="changes whose name holds this; nothing is written")
    scale_ = programs.add_parser("scale", help="the operator with many instances")
    scale_.add_argument("--declared", type=int, default=1000, help="AgentInstances")
    scale_.add_argument("--undeclared", type=int, default=1000, help="instances without an object")
    step_ = programs.add_parser("step", help="ten times the load on a pool that scales by itself")
    step_.add_argument("--only", default="", help="the run whose name holds this; nothing is written")
    return PROGRAMS[(options := parser.parse_args()).program](options)


def _faults(options: argparse.Namespace) -> int:
    run = campaign.run(options.seconds, options.every, options.factor, options.seed, options.only)
    write("" if options.only else "chaos", report.table(run))
    for text in report.evidence(run):
        say(text)
    return code(report.checks(run))


def _updates(options: argparse.Namespace) -> int:
    done = updates.run(options.factor, options.seed, options.only)
    write("" if options.only else "updates", updates.table(done))
    return code([check for one in done for check in updates.checks(one)])


def _scale(options: argparse.Namespace) -> int:
    phases = scale.run(options.declared, options.undeclared, options.seed)
    write("scale", scale.table(phases))
    return code(scale.checks(phases))


def _step(options: argparse.Namespace) -> int:
    runs = step.run(options.seed, options.only)
    write("" if options.only else "scale-step", step.table(runs))
    return code(step.checks(runs))


PROGRAMS = {"faults": _faults, "updates": _updates, "scale": _scale, "step": _step}


def code(checks: Sequence[Check]) -> int:
    """Exit code."""
    return 0 if all(check.held for check in checks) else 1


def write(name: str, text: str) -> None:
    """To the terminal and, if there is a name, benchmarks/results/NAME.md, with the machine."""
    sys.stdout.write(text)
    if name:
        facts = machine() | {"at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
        head = "\n".join(f"{key}: {value}  " for key, value in facts.items())
        (RESULTS / f"{name}.md").write_text(f"{head}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
