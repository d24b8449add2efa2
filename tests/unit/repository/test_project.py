# SPDX-License-Identifier: Apache-2.0
"""Lock, changelog, licence, Makefile and CI say what they should."""

from __future__ import annotations

import re
import tomllib

from support.repository import ROOT

LOCK = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = re.compile(r"^([a-z-]+):.*## ", re.MULTILINE)


def normal(requirement: str) -> str:
    """The name of a requirement as the lock writes it."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCK
    assert "index-url" not in LOCK
    assert "find-links" not in LOCK


def test_everything_in_the_lock_is_pinned_and_hashed() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", LOCK.strip())
    pinned = [entry for entry in entries if re.match(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+", entry)]
    assert len(pinned) == len(entries)
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_holds_every_dependency() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = {
        normal(requirement)
        for group in (PROJECT["project"]["dependencies"], *extras)
        for requirement in group
        if not requirement.startswith("agentpool")
    }
    locked = {normal(line) for line in LOCK.splitlines() if re.match(r"[a-z0-9]", line)}
    assert wanted - locked == set()


def test_the_changelog_has_a_place_for_the_next_release() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "\n## [Unreleased]\n" in text


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_every_target_without_a_dash_in_front_is_in_the_help() -> None:
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))
    listed = set(TARGETS.findall(MAKEFILE))
    assert phony == listed
    assert {"setup", "check", "test", "model", "bench", "demo-local", "generate", "verify", "lock"} <= listed


def test_the_makefile_uses_only_scripts_that_exist() -> None:
    scripts = set(re.findall(r"tools/\w+\.(?:py|sh)", MAKEFILE))
    assert [script for script in sorted(scripts) if not (ROOT / script).is_file()] == []


def test_ci_runs_make_test_between_two_clean_machines() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert commands == [
        "set -eu",
        'cd "$(dirname "$0")/.."',
        "python3 tools/devcluster down",
        "trap 'python3 tools/devcluster down' EXIT",
        "make test",
    ]
