# SPDX-License-Identifier: Apache-2.0
"""Teach the three projects their documents and ask every question of questions.yaml.

agentpool dev pool.yaml          # in one terminal
python ask.py                    # in another
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

HERE = Path(__file__).parent
URL = os.environ.get("AGENTPOOL_URL", "http://127.0.0.1:8000") + "/api/v1/pool/invoke"


def invoke(client: httpx.Client, tenant: str, project: str, value: Any) -> dict[str, Any]:
    """One request to the instance of a tenant and project."""
    body = {"tenant_id": tenant, "project_id": project, "input": value}
    response = client.post(URL, json=body)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def documents_of(folder: Path) -> list[dict[str, str]]:
    """The documents of one project, in the form that the Librarian takes."""
    return [
        {"id": path.stem, "text": path.read_text(encoding="utf-8")} for path in sorted(folder.glob("*.md"))
    ]


def main() -> None:
    """Teach, then ask."""
    with httpx.Client(timeout=30) as client:
        for folder in sorted((HERE / "documents").glob("*/*")):
            tenant, project = folder.parent.name, folder.name
            taught = invoke(client, tenant, project, {"documents": documents_of(folder)})
            sys.stdout.write(f"{tenant}/{project}: {taught['output']}\n")
        for line in yaml.safe_load((HERE / "questions.yaml").read_text(encoding="utf-8")):
            answer = invoke(client, line["tenant"], line["project"], line["question"])
            milliseconds = answer["timing"]["done_ms"]
            sys.stdout.write(f"\n{line['tenant']}/{line['project']} ({milliseconds:.1f} ms)\n")
            sys.stdout.write(f"  Q: {line['question']}\n  A: {answer['output']['answer']}\n")


if __name__ == "__main__":
    main()
