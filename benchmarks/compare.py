# SPDX-License-Identifier: Apache-2.0
"""This checkout against another revision, by turns in several rounds."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import GROUPS
from benchmarks.comparison import Values, comparisons, report, values_of
from benchmarks.console import facts, say, show
from benchmarks.rows import Findings, Scale
from benchmarks.stack import ROOT, Product, running

SHARED = "driver (this checkout's for both sides), gateway, host, workers and redis-server share these cores"
SOURCES = ("core", "operator", "gateway", "agent_container", "cli", "client")
LOCK = "requirements/dev.lock"
SCALES = {
    "full": Scale(requests=900, firsts=40, residents=100, idle_seconds=3.0, open_seconds=5.0),
    "tiny": Scale(requests=30, firsts=20, residents=2, idle_seconds=0.2, open_seconds=1.0),
}
DEFAULT_GROUPS = ("path", "state")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `make bench-compare`."""
    parser.add_argument("--base", required=True, help="revision to compare with, as git knows it")
    parser.add_argument("--rounds", type=int, default=6, help="six at least for an interval of 95 %%")
    parser.add_argument("--only", choices=GROUPS, action="append", help=f"group; default: {DEFAULT_GROUPS}")
    parser.add_argument("--scale", choices=SCALES, default="full", help="tiny shows nothing but that it runs")
    parser.add_argument(
        "--name", default="", help="of a file in benchmarks/results/; default: none is written"
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    revision = _git("rev-parse", "--short", f"{options.base}^{{commit}}")
    with checkout(revision) as product:
        base, head = asyncio.run(measure(options, product))
    found = comparisons(base, head, random.Random(1))
    told = facts(SHARED) | {
        "base": f"{revision} {_git('log', '-1', '--format=%s', revision)}",
        "head": _git("rev-parse", "--short", "HEAD")
        + (" with changes" if _git("status", "--porcelain") else ""),
        "rounds": f"{options.rounds}, in each both sides, the first to go changes",
    }
    show(options.name, told, report(found))
    return 0


async def measure(options: argparse.Namespace, base: Product) -> tuple[Values, Values]:
    """Values of both sides, by what was measured; one of each round."""
    sides: dict[str, Values] = {"base": {}, "head": {}}
    products = {"base": base, "head": Product()}
    for number in range(options.rounds):
        # Whoever goes second meets a machine that the first has warmed: take turns.
        for side in sorted(products, reverse=bool(number % 2)):
            say(f"round {number + 1}, {side}")
            for name in options.only or DEFAULT_GROUPS:
                findings = await _group(name, SCALES[options.scale], products[side])
                for key, value in values_of(findings.rows).items():
                    sides[side].setdefault(key, []).append(value)
    return sides["base"], sides["head"]


async def _group(name: str, scale: Scale, product: Product) -> Findings:
    findings = Findings()
    group = GROUPS[name]
    async with running(group.pool, group.gateways, product) as stack:
        for scenario in group.scenarios:
            await scenario(stack, scale, findings)
    return findings


@contextmanager
def checkout(revision: str) -> Iterator[Product]:
    """The product at a revision, in a temporary git worktree. It runs in this environment where the locked
    dependencies are the same, and in one of its own otherwise."""
    directory = Path(tempfile.mkdtemp(prefix="apb-base-"))
    # Hosts and workers run as other users, and read the code from there.
    directory.chmod(0o755)
    tree = directory / "base"
    try:
        _git("worktree", "add", "--detach", str(tree), revision)
        yield _product(tree)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)
        shutil.rmtree(directory, ignore_errors=True)


def _product(tree: Path) -> Product:
    path = os.pathsep.join(str(tree / source) for source in SOURCES)
    python = sys.executable
    if (tree / LOCK).read_bytes() != (ROOT / LOCK).read_bytes():
        say("the locked dependencies differ: making an environment for the base")
        subprocess.run([sys.executable, "tools/ensure_venv.py"], cwd=tree, check=True, stdout=sys.stderr)
        python = str(tree / ".venv" / "bin" / "python")
    product = Product(python, {"PYTHONPATH": path})
    where = subprocess.run(
        [python, "-c", "import agentpool_gateway; print(agentpool_gateway.__file__)"],
        env={**os.environ, **product.environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if not Path(where.strip()).is_relative_to(tree):
        raise RuntimeError(f"the base would run {where.strip()}, which is not its own code")
    return product


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()
