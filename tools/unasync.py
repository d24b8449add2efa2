# SPDX-License-Identifier: Apache-2.0
"""The client without asyncio, made from the one with it: words are replaced, nothing else.

What differs by more than words is in `runtime.py` of either folder, written by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path("client/agentpool_client/_async")
TARGET = Path("client/agentpool_client/_sync")
BY_HAND = frozenset({"__init__.py", "runtime.py"})
RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\basync (def|with|for)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\b__aenter__\b", "__enter__"),
        (r"\b__aexit__\b", "__exit__"),
        (r"\baclosing\b", "closing"),
        (r"\bAsyncIterator\b", "Iterator"),
        (r"\bagentpool_client\._async\b", "agentpool_client._sync"),
    )
)


def synchronous(text: str) -> str:
    """The text without asyncio, as it comes out of the rules."""
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return text


def files(root: Path, mark: str) -> dict[Path, str]:
    """Text of every generated file by its path in the repository."""
    texts: dict[Path, str] = {}
    for source in sorted((root / SOURCE).glob("*.py")):
        if source.name not in BY_HAND:
            head = f"# Generated from {SOURCE / source.name} {mark}\n"
            texts[TARGET / source.name] = head + synchronous(source.read_text(encoding="utf-8"))
    return {path: _laid_out(root, path, text) for path, text in texts.items()}


def left_over(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """Files of the folder whose source is gone."""
    present = {one.relative_to(root) for one in (root / TARGET).glob("*.py") if one.name not in BY_HAND}
    return sorted(present - set(wanted))


def _laid_out(root: Path, path: Path, text: str) -> str:
    # Shorter words make shorter lines, and other names another order of imports.
    for arguments in (("check", "--select=I", "--fix", "--quiet"), ("format", "--quiet")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, f"--stdin-filename={path}", "-"],
            input=text,
            capture_output=True,
            text=True,
            cwd=root,
            check=True,
        )
        text = done.stdout
    return text
