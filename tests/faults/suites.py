# SPDX-License-Identifier: Apache-2.0
"""The tables of known bugs and races: their tests, as pytest runs of their own beside each other."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Mapping, Sequence

from faults.findings import Findings
from faults.regressions import KNOWN_BUGS, RACES, missing, named_tests
from support.repository import ROOT

RUN_SECONDS = 1500.0
FULL_SECONDS = 3600.0
MODEL = "tests/model/"
"""A run of its own: it computes where the others wait, and what its machines draw depends on what else is
imported."""
ON_PODS = "tests/e2e/"
"""Needs a cluster with nodes, and is run by `make e2e`."""


def runs(tests: Sequence[str]) -> list[list[str]]:
    """What pytest is given in each run; a test within a file that is run as a whole is not named again."""
    files = {test.removesuffix("::*") for test in tests if test.endswith("::*")}
    once = {test.removesuffix("::*") for test in tests if test.partition("::")[0] not in files} | files
    here = sorted(one for one in once if not one.startswith(ON_PODS))
    parts = [[one for one in here if one.startswith(MODEL) is model] for model in (False, True)]
    return [part for part in parts if part]


def passed(output: str) -> int:
    """How many cases passed, as the last line of pytest's first try tells."""
    found = re.search(r"(\d+) passed", output)
    return int(found.group(1)) if found else 0


def failed(output: str) -> list[str]:
    """The tests that failed at the last try."""
    last = output.rpartition("short test summary info")[2] if "short test summary" in output else ""
    return [line for line in last.splitlines() if line.startswith(("FAILED", "ERROR"))]


async def regressions(findings: Findings, full: bool, say: Callable[[str], None]) -> None:
    """Run them all; a test that fails twice is a violation, one that fails once is named."""
    named = sorted({test for _, test in named_tests()})
    findings.tried["known bugs and races"] = findings.of["known bugs and races"] = len(KNOWN_BUGS) + len(
        RACES
    )
    findings.tried["tests named for them"] = sum(not test.startswith(ON_PODS) for test in named)
    findings.of["tests named for them"] = len(named)
    for one in missing():
        findings.violate("regressions", f"there is no test {one}")
    for test in named:
        if test.startswith(ON_PODS):
            findings.notes.append(f"not tried here: {test}, which `make e2e` runs on real pods")
    limit = FULL_SECONDS if full else RUN_SECONDS
    async with asyncio.TaskGroup() as tasks:
        for chosen in runs(named):
            tasks.create_task(_run(chosen, limit, findings, say))


async def _run(chosen: Sequence[str], limit: float, findings: Findings, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="ap-pytest-") as cache:
        environ: Mapping[str, str] = {**os.environ, "PYTEST_CACHE": cache}
        process = await asyncio.create_subprocess_exec(
            *("tools/pytest_twice.sh", *chosen), cwd=ROOT, stdout=PIPE, stderr=STDOUT, env=environ
        )
        try:
            async with asyncio.timeout(limit):
                output = (await process.communicate())[0].decode(errors="replace")
        except TimeoutError:
            process.kill()
            await process.wait()
            findings.violate("regressions", f"{chosen[0]} and others: not done in {limit:g} s")
            return
    findings.tried["cases in these tests"] += passed(output)
    for line in failed(output) if process.returncode else ():
        findings.violate("regressions", line[:200])
    if process.returncode and not failed(output):
        findings.violate("regressions", f"pytest ends with {process.returncode}: {output[-300:]}")
    twice = re.findall(r"^passed at the second try: (.+)$", output, re.MULTILINE)
    findings.notes += [f"passed at the second try: {names}" for names in twice]
    say(f"regressions: {', '.join(chosen[:2])} ..: {'failed' if process.returncode else 'ok'}")
