# SPDX-License-Identifier: Apache-2.0
"""The quickstart as both demonstrations run it: teach three projects, ask them, print a table."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "01-quickstart"
WIDTH = 46
"""Columns of question and answer in the table."""

began = time.monotonic()


class DemoFailed(Exception):
    """Something did not go as it should; the text says what."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    project: str
    tier: str
    pod: str
    question: str
    answer: str
    milliseconds: float


def say(text: str) -> None:
    """A line of progress with the time since the start."""
    print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)


def questions() -> list[dict[str, str]]:
    """The questions with their projects and what the answers must hold."""
    found: list[dict[str, str]] = yaml.safe_load((EXAMPLE / "questions.yaml").read_text())
    return found


def invoke(
    client: httpx.Client, tenant: str, project: str, value: Any, tier: str | None = None
) -> dict[str, Any]:
    """One request; DemoFailed with the gateway's reason when it is refused."""
    body = {"tenant_id": tenant, "project_id": project, "input": value} | ({"tier": tier} if tier else {})
    response = client.post("/api/v1/pool/invoke", json=body)
    answer: dict[str, Any] = response.json()
    if response.is_error:
        raise DemoFailed(f"{answer['code']}: {answer['detail']} {answer['remedy']}")
    return answer


def teach(client: httpx.Client, tiers: Mapping[str, str] | None = None) -> None:
    """Give every project its documents; `tiers` by tenant/project, for those that are to be placed anew."""
    for folder in sorted((EXAMPLE / "documents").glob("*/*")):
        texts = [{"id": path.stem, "text": path.read_text()} for path in sorted(folder.glob("*.md"))]
        tier = (tiers or {}).get(f"{folder.parent.name}/{folder.name}")
        answer = invoke(client, folder.parent.name, folder.name, {"documents": texts}, tier)
        took = f"{answer['timing']['done_ms']:.1f} ms, now on {answer['pod']}"
        say(f"taught {folder.parent.name}/{folder.name}: {len(texts)} documents, {took}")


def ask(client: httpx.Client, lines: Sequence[dict[str, str]]) -> list[Row]:
    """Ask each question and check that its answer holds the passage that belongs to it."""
    rows = []
    for line in lines:
        started = time.monotonic()
        answer = invoke(client, line["tenant"], line["project"], line["question"])
        milliseconds = (time.monotonic() - started) * 1000
        text = " ".join(answer["output"]["answer"].split())
        passages = " ".join(" ".join(one["text"].split()) for one in answer["output"]["passages"])
        if line["expect"] not in text + passages:
            raise DemoFailed(f"{line['question']} was answered by: {text}")
        project = f"{line['tenant']}/{line['project']}"
        rows.append(Row(project, answer["tier"], answer["pod"], line["question"], text, milliseconds))
    return rows


def print_table(rows: Sequence[Row]) -> None:
    """Project, tier, pod, question, answer and milliseconds; long texts are wrapped."""
    pods = max(len("POD"), *(len(row.pod) for row in rows))
    form = f"{{:14}} {{:4}} {{:{pods}}} {{:{WIDTH}}} {{:{WIDTH}}} {{:>7}}"
    print("\n" + form.format("PROJECT", "TIER", "POD", "QUESTION", "ANSWER", "MS"))
    for row in rows:
        question = textwrap.wrap(row.question, WIDTH)
        answer = textwrap.wrap(textwrap.shorten(row.answer, WIDTH * 4, placeholder=" ..."), WIDTH)
        for at in range(max(len(question), len(answer))):
            first = at == 0
            print(
                form.format(
                    row.project if first else "",
                    row.tier if first else "",
                    row.pod if first else "",
                    question[at] if at < len(question) else "",
                    answer[at] if at < len(answer) else "",
                    f"{row.milliseconds:.1f}" if first else "",
                ).rstrip()
            )
    print(flush=True)
