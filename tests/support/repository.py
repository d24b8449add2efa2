# SPDX-License-Identifier: Apache-2.0
"""The files of the repository, as tests about them need them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tools.unasync import BY_HAND, SOURCE, TARGET

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = (
    ".ci",
    ".github",
    "agent_container",
    "benchmarks",
    "charts",
    "cli",
    "client",
    "core",
    "crds",
    "docs",
    "examples",
    "gateway",
    "images",
    "manifests",
    "operator",
    "proto",
    "requirements",
    "tests",
    "tools",
)
CLIENT = frozenset(TARGET / one.name for one in (ROOT / SOURCE).glob("*.py") if one.name not in BY_HAND)
SKIPPED = frozenset({"__pycache__", ".venv", "node_modules"})
TEXTS = frozenset(
    {".cfg", ".go", ".json", ".lock", ".lua", ".md", ".mod", ".proto", ".py", ".pyi", ".sh", ".svg", ".toml"}
    | {".tpl", ".txt", ".yaml", ".yml", ""}
)


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.name not in SKIPPED:
                yield from _below(entry)
        elif entry.suffix in TEXTS:
            yield entry


@cache
def files() -> tuple[Path, ...]:
    """Every text file that belongs to the project."""
    # In a second work tree .git is a file.
    top = [p for p in sorted(ROOT.iterdir()) if p.is_file() and p.suffix in TEXTS and p.name != ".git"]
    return (*top, *(path for name in FOLDERS if (ROOT / name).is_dir() for path in _below(ROOT / name)))


def is_generated(path: Path) -> bool:
    """Whether `make generate` writes it."""
    return "_pb2" in path.name or path.relative_to(ROOT) in CLIENT


def sources() -> list[Path]:
    """Every Python file that people write."""
    return [path for path in files() if path.suffix == ".py" and not is_generated(path)]
