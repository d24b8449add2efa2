# SPDX-License-Identifier: Apache-2.0
"""The directory of the workers' own directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentpool_agent.zygote.boot import CannotServe, open_work_dir


def test_it_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    made = open_work_dir(tmp_path / "volume" / "workers")
    assert made.is_dir()
    assert made.stat().st_mode & 0o777 == 0o700


def test_what_an_earlier_zygote_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "worker-7" / "deep").mkdir(parents=True)
    (tmp_path / "kept").touch()
    open_work_dir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_one_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotServe, match="working directory .*file/workers"):
        open_work_dir(tmp_path / "file" / "workers")
