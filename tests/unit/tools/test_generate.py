# SPDX-License-Identifier: Apache-2.0
"""Generated files: verified against the committed ones, and the verification notices what it should."""

from __future__ import annotations

from pathlib import Path

from agentpool_core.errors import BY_CODE
from agentpool_core.lifecycle import OPERATIONS
from tools.generate import ROOT, STUBS, pages, stale
from tools.reference import table

PAGES = pages()


def test_the_committed_pages_are_the_generated_ones() -> None:
    committed = {path: (ROOT / path).read_text(encoding="utf-8") for path in PAGES}
    assert committed == PAGES


def test_every_page_names_its_source_and_command_first() -> None:
    for text in PAGES.values():
        first = text.splitlines()[0]
        assert first.startswith(("<!-- Generated from core/agentpool_core/", "<!-- Generated from client/"))
        assert first.endswith("by `make generate`. Do not edit. -->")


def test_the_pages_hold_every_error_and_every_move() -> None:
    whole = "\n".join(PAGES.values())
    assert [code for code in BY_CODE if f"| `{code}` |" not in whole] == []
    assert [move for move in OPERATIONS if f"{move[0]} --> {move[1]}: " not in whole] == []


def test_notices_what_is_missing_changed_or_left_over(tmp_path: Path) -> None:
    (tmp_path / STUBS).mkdir(parents=True)
    (tmp_path / STUBS / "same_pb2.py").write_text("same")
    (tmp_path / STUBS / "edited_pb2.py").write_text("edited by hand")
    (tmp_path / STUBS / "gone_pb2.pyi").write_text("its source was removed")
    wanted = {STUBS / "same_pb2.py": "same", STUBS / "edited_pb2.py": "text", Path("docs/new.md"): "text"}
    assert stale(wanted, tmp_path) == [
        f"{STUBS}/edited_pb2.py is out of date",
        "docs/new.md is missing",
        f"{STUBS}/gone_pb2.pyi has no source any more",
    ]


def test_a_bar_does_not_break_a_table() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |\n"
