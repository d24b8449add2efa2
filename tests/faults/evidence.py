# SPDX-License-Identifier: Apache-2.0
"""What is kept of a violation: the next run may not show it again."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path

from faults.lane import Lane

FOLDER = Path(__file__).parents[2] / "build" / "faults"


async def keep(lane: Lane, name: str, violations: Sequence[str]) -> Path:
    """Write down a lane as it is now; gives the file.

    Args:
        name: of the job that the violations were found in.
    """
    objects = await lane.objects()
    for bodies in objects.values():
        for body in bodies:
            body["metadata"].pop("managedFields", None)
    hosts = {uid: [host.status, list(host.instances.values())] for uid, host in lane.node.hosts.items()}
    sections = {
        "violations": "\n".join(violations),
        "state": "\n".join(await lane.state()),
        "hosts": json.dumps(hosts, indent=1, default=str),
        "objects": json.dumps(objects, indent=1, default=str),
        "log of the operators": lane.log,
    }
    text = "\n".join(f"== {title}\n{section}\n" for title, section in sections.items())
    path = FOLDER / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.txt"
    await asyncio.to_thread(_write, path, text)
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
