# SPDX-License-Identifier: Apache-2.0
"""The client without asyncio comes from the one with it, and holds nothing of asyncio."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import agentpool_client
from agentpool_client import sync
from tools.generate import MARK, ROOT
from tools.unasync import TARGET, files, left_over, synchronous

# It starts a program for each file.
pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("async def a() -> None: ...", "def a() -> None: ..."),
        ("async with aclosing(x) as y:", "with closing(x) as y:"),
        ("async for one in await found():", "for one in found():"),
        ("def a() -> AsyncIterator[int]:", "def a() -> Iterator[int]:"),
        ("from agentpool_client._async import runtime", "from agentpool_client._sync import runtime"),
        ("An awaited call, asynchronous.", "An awaited call, asynchronous."),
    ],
)
def test_words_are_replaced(source: str, wanted: str) -> None:
    assert synchronous(source) == wanted


def test_the_committed_files_are_the_generated_ones() -> None:
    for path, text in files(ROOT, MARK).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, path


def test_nothing_of_asyncio_is_left() -> None:
    for path in (ROOT / TARGET).glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, kinds)], path
        names = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        assert not names & {"asyncio", "grpc.aio"}, path


def test_both_clients_have_the_same_face() -> None:
    assert agentpool_client.__all__ == sync.__all__
    for name in ("AgentPool", "Handle", "Instances"):
        faces = [
            {
                member: str(inspect.signature(value)).replace("_async", "_sync")
                for member, value in vars(getattr(module, name)).items()
                if inspect.isfunction(value) and not member.startswith("_")
            }
            for module in (agentpool_client, sync)
        ]
        assert faces[0].keys() == faces[1].keys()
        for member in faces[0]:
            assert faces[0][member].split("->")[0] == faces[1][member].split("->")[0]


def test_a_file_without_a_source_is_noticed(tmp_path: Path) -> None:
    (tmp_path / TARGET).mkdir(parents=True)
    (tmp_path / TARGET / "gone.py").touch()
    (tmp_path / TARGET / "runtime.py").touch()
    assert left_over(tmp_path, {}) == [TARGET / "gone.py"]
