# SPDX-License-Identifier: Apache-2.0
"""Links of the documentation resolve, its pictures are sound, and its claims name tests that exist."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import pytest

from support.dev import ROOT
from support.snippets import snippets

PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    }
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SHOWN_BY = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
GUARANTEES = ROOT / "docs/explanation/guarantees.md"
LATER = "with the cluster issue"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        assert file.is_relative_to(ROOT), f"{target} leaves the repository"
        assert not anchor or anchor in _anchors(file), f"{target} names no heading"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/images/*.svg")), ids=lambda path: path.name)
def test_pictures_are_xml_with_title_and_description(picture: Path) -> None:
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314  # our own file
    names = {child.tag.rpartition("}")[2] for child in root}
    assert {"title", "desc"} <= names, "a reader who cannot see the picture needs its description"


@cache
def _tests_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def _rows() -> list[str]:
    lines = GUARANTEES.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith("| --")]
    return [row for row in rows if not row.startswith(("| fails |", "| happens |"))]


@pytest.mark.parametrize("row", _rows())
def test_every_guarantee_names_a_test_that_exists_or_says_when_it_comes(row: str) -> None:
    shown_by = SHOWN_BY.findall(row)
    assert shown_by or LATER in row, "name the test that shows it"
    for path, name in shown_by:
        file = ROOT / path
        assert file.is_file(), f"{path} does not exist"
        assert name in _tests_of(file), f"{path} has no {name}"


COMPONENTS = (
    "worker",
    "host",
    "gateway",
    "store is down",
    "store loses its data",
    "node",
    "operator",
    "API server",
)


def test_every_guarantee_is_given_for_every_component() -> None:
    text = GUARANTEES.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    tables = {section.splitlines()[0]: section for section in sections if "| fails |" in section}
    assert len(tables) == 5
    for title, section in tables.items():
        missing = [name for name in COMPONENTS if f"| {name} |" not in section]
        assert not missing, f"{title}: no row for {missing}"


GUARD = re.compile(r"\"((?:limit|watch|landlock|seccomp|no|not|separate)-[a-z-]+)\"")


def test_the_page_on_isolation_names_every_guard() -> None:
    sources = [
        *ROOT.glob("agent_container/agentpool_agent/worker/isolation/*.py"),
        ROOT / "cli/agentpool_cli/dev/banner.py",
    ]
    guards = {name for file in sources for name in GUARD.findall(file.read_text(encoding="utf-8"))}
    assert len(guards) > 15, "the guards are not where this test looks for them"
    page = (ROOT / "docs/explanation/isolation.md").read_text(encoding="utf-8")
    assert not {name for name in guards if f"`{name}`" not in page}


def test_a_block_without_an_end_is_found() -> None:
    with pytest.raises(ValueError, match="has no end"):
        list(snippets(Path("page.md"), "```sh\nls\n"))
