# SPDX-License-Identifier: Apache-2.0
"""The figures in README.md, made from a file of results."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.console import RESULTS
from benchmarks.headlines import NO_POOL
from benchmarks.stack import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- bench: begin -->\n).*?(<!-- bench: end -->)", re.DOTALL)
SOURCE = re.compile(r"\(benchmarks/results/([\w-]+)\.md\)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `make bench-readme`."""
    parser.add_argument("--name", default="bench", help="of the results in benchmarks/results/")


def run(options: argparse.Namespace) -> int:
    """Write the block anew."""
    results = json.loads((RESULTS / f"{options.name}.json").read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    README.write_text(replaced(text, block(results, options.name)), encoding="utf-8")
    return 0


def replaced(text: str, new: str) -> str:
    """The README with another block; ValueError when it has none."""
    if BLOCK.search(text) is None:
        raise ValueError("README.md has no block of figures")
    return BLOCK.sub(lambda found: found[1] + new + found[2], text)


def block(results: Mapping[str, Any], name: str) -> str:
    """The block's lines; what was not measured is left out."""
    facts = results["facts"]
    rows = {row["name"]: row for row in results["rows"]}
    lines = [
        f"{facts['cores']} cores of an {facts['processor']} with {facts['memory']}; {facts['shared']}",
        f"([all figures](benchmarks/results/{name}.md)):",
        "",
        "| what | measured |",
        "|---|---|",
    ]
    for what, make in _LINES:
        try:
            lines.append(f"| {what} | {make(rows)} |")
        except KeyError:
            continue  # these results do not have it
    for one in results.get("headlines", ()):
        if one["id"] in ("A90", "A91") and one["ratio"] is not None:
            before, now = (f"{one[key]:.3g} {one['unit']}" for key in ("before", "now"))
            way = "a one-shot instance" if one["note"] == NO_POOL else "a fresh process"
            lines.append(f"| {one['what']}: {way} for each request, the pool | {before}, {now} |")
    return "\n".join(lines) + "\n"


Rows = Mapping[str, Mapping[str, Any]]


def _ms(rows: Rows, name: str, percentile: str) -> str:
    return f"{rows[name]['times'][percentile]:.1f} ms"


def _two(name: str) -> Callable[[Rows], str]:
    return lambda rows: f"{_ms(rows, name, 'p50')}, {_ms(rows, name, 'p99')}"


def _ways(rows: Rows) -> str:
    return ", ".join(
        _ms(rows, f"{way}, one caller", "p50") for way in ("gateway REST", "gateway gRPC", "direct")
    )


def _change(rows: Rows) -> str:
    changed, unchanged = (
        rows[name]["times"]["p50"] for name in ("answer that changes 100 kB", "answer, unchanged")
    )
    return f"{changed - unchanged:.1f} ms"


def _instance(rows: Rows) -> str:
    memory = rows["private memory of an instance, median"]["figure"]
    idle = rows["idle CPU of an instance, host and zygote included"]["figure"]
    return f"{memory:.1f} MB; {idle:.3f} % of a core"


_LINES: tuple[tuple[str, Callable[[Rows], str]], ...] = (
    ("answer of a resident instance, through the gateway: REST, gRPC, straight to its host (p50)", _ways),
    (
        "the same by gRPC at 500 requests a second (p99)",
        lambda rows: _ms(rows, "gateway gRPC, 500/s", "p99"),
    ),
    ("first answer of a new instance (p50, p99)", _two("first request of a new instance, 10/s")),
    (
        "first answer of an evicted one, on a full host: one is saved, one restored (p50, p99)",
        _two("first request after eviction, host full"),
    ),
    ("making a change of 100 kB durable before the answer leaves, over no change (p50)", _change),
    ("instances resident at once", lambda rows: f"{rows['instances resident']['figure']:,.0f}"),
    ("private memory of an instance after ten answers; its idle CPU", _instance),
)
