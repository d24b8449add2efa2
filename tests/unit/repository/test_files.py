# SPDX-License-Identifier: Apache-2.0
"""Rules that every file keeps."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.repository import ROOT, files, is_generated, sources

LICENCE = "# SPDX-License-Identifier: Apache-2.0"
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
# Pieces are joined here so that this file does not hold what it looks for.
FOREIGN = re.compile(
    "|".join(
        [
            "/ho" + r"me/\w",
            "/ro" + r"ot/\w",
            "/wo" + r"rk/\w",
            "/Us" + r"ers/\w",
            "Cla" + "ude",
            "Chat" + "GPT",
            "py" + r"pi\.org",
            "pythonho" + r"sted\.org",
            r"--(extra-)?index" + r"-url[ =]\S+://",
        ]
    )
)


# Reading and parsing hundreds of files is longer than one unit may take.
pytestmark = pytest.mark.timeout(30)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which may be as long as it needs."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    words = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - words


def test_operator_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), (
        "with it, Python started from the root would take it for the standard library's operator"
    )


def test_every_python_file_begins_with_its_licence() -> None:
    without = [named(p) for p in sources() if not p.read_text(encoding="utf-8").startswith(LICENCE)]
    assert without == []


def test_no_file_is_longer_than_400_lines() -> None:
    long = {named(p): n for p in sources() if (n := p.read_text(encoding="utf-8").count("\n")) > 400}
    assert long == {}


def test_no_function_is_longer_than_40_lines() -> None:
    long = {
        f"{named(path)}::{function.name}": length(function)
        for path in sources()
        for function in functions(parsed(path))
        if length(function) > 40
    }
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [named(path) for path in sources() if path.stem in EMPTY_NAMES] == []


def test_no_error_is_swallowed_whole() -> None:
    swallowed = [
        f"{named(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and all(isinstance(step, ast.Pass) for step in node.body)
    ]
    assert swallowed == []


def test_every_public_list_is_exact() -> None:
    wrong: list[str] = []
    for path in sources():
        tree = parsed(path)
        known = {name for node in tree.body for name in (*_bound(node), *_later(node))}
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                listed = ast.literal_eval(node.value)
                if len(set(listed)) != len(listed) or not set(listed) <= known:
                    wrong.append(f"{named(path)}: {sorted(set(listed) - known)}")
    assert wrong == []


def _later(node: ast.stmt) -> Iterator[str]:
    """What a module's `__getattr__` loads with its first use."""
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_LATER":
        yield from ast.literal_eval(node.value)


def _bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def test_no_file_speaks_of_one_machine_or_of_a_package_index() -> None:
    # Module paths of Go are addresses by nature, and the licence has its own.
    found = [
        f"{named(path)}:{number}: {match.group()}"
        for path in files()
        if path.name not in {"go.sum", "go.mod"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := FOREIGN.search(line))
    ]
    assert found == []


def test_no_file_holds_a_merge_conflict_or_a_note_to_finish() -> None:
    marks = re.compile(r"^(<{7}|>{7}) |\b(" + "TO" + "DO|FIX" + r"ME|XX" + r"X)\b")
    found = [
        f"{named(path)}:{number}"
        for path in files()
        if not is_generated(path) and path.suffix != ".sum"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile"])
def test_the_repository_has(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8").strip()
