# SPDX-License-Identifier: Apache-2.0
"""Logs outlive their pods, and errors in them are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from chaos.logs import Logs, errors_in


def line(level: str, event: str) -> str:
    """As a container runtime writes down what a part of the release logs."""
    entry = json.dumps({"event": event, "level": level})
    return f"2026-01-01T00:00:00.1Z stderr F {entry}\n"


def test_only_errors_are_found() -> None:
    lines = [line("info", "one"), line("error", "two"), "2026-01-01T00:00:00.1Z stdout F not JSON", "[1]"]
    assert [json.loads(found)["event"] for found in errors_in(lines)] == ["two"]


def test_what_a_deleted_pod_wrote_is_kept(tmp_path: Path) -> None:
    pods, to = tmp_path / "pods", tmp_path / "to"
    folder = pods / "system_gateway-a_1-2" / "gateway"
    folder.mkdir(parents=True)
    log = folder / "0.log"
    log.write_text(line("info", "started"))
    (pods / "other_pod_3" / "agent").mkdir(parents=True)
    (pods / "other_pod_3" / "agent" / "0.log").write_text(line("error", "not of this run"))
    with Logs(pods, ("system",), to) as logs:
        with log.open("a") as file:
            file.write(line("error", "failed"))
        shutil.rmtree(pods / "system_gateway-a_1-2")
    assert [found.split(": ", 1)[0] for found in logs.errors()] == ["gateway-a"]
    assert len((to / "system_gateway-a_1-2.gateway.0.log").read_text().splitlines()) == 2
