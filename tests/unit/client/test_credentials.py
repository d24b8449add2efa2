# SPDX-License-Identifier: Apache-2.0
"""Tokens that stay, and tokens in a file that is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentpool_client.credentials import Credentials


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_that_stays_is_never_read() -> None:
    held = Credentials("abc", None, Clock())
    assert held.metadata == (("authorization", "Bearer abc"),)
    assert not held.due
    assert not held.read()


def test_without_a_token_nothing_is_sent() -> None:
    assert Credentials(None, None, Clock()).metadata == ()


def test_a_file_is_read_again_each_minute(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("first\n")
    held = Credentials(None, file, clock)
    assert held.due
    assert held.read()
    assert held.metadata == (("authorization", "Bearer first"),)
    file.write_text("second\n")
    clock.now = 59.0
    assert not held.due
    clock.now = 61.0
    assert held.due
    assert held.read(), "it is another one"
    assert not held.read(), "it is the same"
    assert held.metadata == (("authorization", "Bearer second"),)


def test_a_file_that_is_gone_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    held = Credentials(None, file, Clock())
    held.read()
    file.unlink()
    assert not held.read()
    assert held.metadata == (("authorization", "Bearer first"),)


def test_a_file_that_never_was_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Credentials(None, tmp_path / "token", Clock()).read()


def test_two_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        Credentials("abc", tmp_path / "token", Clock())
