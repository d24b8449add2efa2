# SPDX-License-Identifier: Apache-2.0
"""Which interpreter `make setup` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.ensure_venv import SetupFailed, choose, others_can_reach

CASES = {
    "a user takes the first that is new enough": (False, ["old", "private", "open"], "private"),
    "root takes the one that other users can start": (True, ["old", "private", "open"], "open"),
    "root takes a private one when there is no other": (True, ["private", "old"], "private"),
    "root keeps the order among those that others can start": (True, ["open-2", "open-1"], "open-2"),
}


def taken(candidates: Sequence[str], is_root: bool) -> str:
    return choose(
        candidates,
        is_root,
        usable=lambda name: not name.startswith("old"),
        reachable=lambda name: name.startswith("open"),
    )


@pytest.mark.parametrize(("is_root", "candidates", "wanted"), CASES.values(), ids=CASES)
def test_takes(is_root: bool, candidates: list[str], wanted: str) -> None:
    assert taken(candidates, is_root) == wanted


@pytest.mark.parametrize("candidates", [[], ["old"]], ids=["none at all", "only an old one"])
def test_without_a_usable_one_the_message_says_what_to_do(candidates: list[str]) -> None:
    with pytest.raises(SetupFailed, match="make setup PYTHON="):
        taken(candidates, is_root=True)


def test_a_program_in_a_private_folder_is_out_of_reach_for_others(tmp_path: Path) -> None:
    program = tmp_path / "private" / "python3"
    program.parent.mkdir(mode=0o700)
    program.write_text("")
    program.chmod(0o755)
    assert not others_can_reach(str(program))
    assert others_can_reach("/bin/sh")
