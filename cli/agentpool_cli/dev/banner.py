# SPDX-License-Identifier: Apache-2.0
"""What `agentpool dev` says once the pool is ready."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentpool_cli.output import align

DEFAULT_REST_PORT = 8000
TEXT_WIDTH = 96
SEPARATE_USERS = "separate-users"
"""The guard that is made by how the pod is started: host and workers have different user ids."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is running, and under which conditions."""

    pool: str
    entrypoint: str
    rest_port: int
    grpc_port: int
    storage: str
    hosts: int
    guards: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    ready_seconds: float = 0.0
    reloads: bool = True


def banner(facts: Facts) -> str:
    """A small table, the notes, and two commands to paste."""
    url = f"http://127.0.0.1:{facts.rest_port}"
    lines = [
        ("Pool", facts.pool),
        ("Agent", facts.entrypoint + (", reloads when its code changes" if facts.reloads else "")),
        ("REST", f"{url}/docs"),
        ("gRPC", f"127.0.0.1:{facts.grpc_port}"),
        ("Storage", facts.storage),
        ("Hosts", str(facts.hosts)),
        *_rows("Isolation", ", ".join(facts.guards) or "none"),
        *(("Missing", f"{guard}: {reason}") for guard, reason in sorted(facts.missing.items())),
        *(("Note", note) for note in facts.notes),
    ]
    title = f"Ready after {facts.ready_seconds:.1f} s. End with Ctrl-C."
    return f"\n{title}\n\n{align(lines)}\n{examples(facts, url)}\n"


def _rows(name: str, text: str) -> list[tuple[str, str]]:
    lines = textwrap.wrap(text, TEXT_WIDTH, break_on_hyphens=False)
    return [(name if number == 0 else "", line) for number, line in enumerate(lines)]


def why_one_user(user: int) -> str:
    """Why host and workers run as the same user."""
    if user != 0:
        return "host and workers share your user id; only root can give them two"
    return "the pod could not take other users; its first log lines name the reason"


def examples(facts: Facts, url: str) -> str:
    """Two ways to send a first request."""
    body = json.dumps({"tenant_id": "demo", "project_id": "demo", "input": "hello"})
    option = "" if facts.rest_port == DEFAULT_REST_PORT else f"--url {url} "
    return "\n".join(
        (
            "Try it from another terminal:",
            f"  agentpool invoke {option}hello",
            f"  curl -s {url}/api/v1/pool/invoke -H 'content-type: application/json' -d '{body}'",
            "",
        )
    )
