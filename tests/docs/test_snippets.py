# SPDX-License-Identifier: Apache-2.0
"""Every block of code in the documentation works, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from agentpool_cli.arguments import build_parser
from agentpool_core.api.manifest import load_manifests
from agentpool_core.api.v1alpha1 import API_VERSION
from support.cluster_commands import check_helm, check_kubectl, check_values
from support.dev import ROOT, DevPool, dev_pool
from support.snippets import UNTESTED, Snippet, snippets

PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    }
)
ALL = [
    snippet
    for page in PAGES
    if page.is_file()
    for snippet in snippets(page.relative_to(ROOT), page.read_text(encoding="utf-8"))
]
KINDS = frozenset({"commands", "manifest", "objects", "values", "file", "run", "pool"})
PROGRAMS = frozenset({".", "cd", "curl", "docker", "python", "git"})
"""First words of commands that are neither agentpool nor make; their files must exist."""


def of_kind(kind: str) -> list[object]:
    return [pytest.param(one, id=one.name) for one in ALL if one.kind == kind]


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, DevPool]]:
    """One running pool per manifest, started at its first use."""
    with ExitStack() as stack:
        yield _Pools(stack)


class _Pools(dict[str, DevPool]):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack

    def __missing__(self, manifest: str) -> DevPool:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        pool = self[manifest] = self._stack.enter_context(dev_pool(ROOT / manifest, directory))
        return pool


@pytest.mark.parametrize("snippet", [pytest.param(one, id=one.name) for one in ALL])
def test_every_block_says_how_it_is_tested(snippet: Snippet) -> None:
    if snippet.language in UNTESTED or snippet.language == "mermaid":
        assert not snippet.kind, "a text block is not tested; give it the language of its code"
    else:
        assert snippet.kind in KINDS, f"write one of {sorted(KINDS)} above the block: <!-- test: ... -->"


@pytest.mark.parametrize("snippet", of_kind("manifest"))
def test_manifests_are_valid(snippet: Snippet) -> None:
    assert load_manifests(snippet.code)


@pytest.mark.parametrize("snippet", of_kind("objects"))
def test_objects_are_named_and_ours_are_valid(snippet: Snippet) -> None:
    for found in yaml.safe_load_all(snippet.code):
        assert {"apiVersion", "kind", "metadata"} <= found.keys()
        if found["apiVersion"] == API_VERSION:
            assert load_manifests(yaml.safe_dump(found))


@pytest.mark.parametrize("snippet", of_kind("values"))
def test_values_are_values_of_the_chart(snippet: Snippet) -> None:
    check_values(yaml.safe_load(snippet.code))


@pytest.mark.parametrize("snippet", of_kind("file"))
def test_excerpts_are_in_their_file(snippet: Snippet) -> None:
    assert snippet.code in (ROOT / snippet.options["file"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("snippet", of_kind("commands"))
def test_commands_exist(snippet: Snippet) -> None:
    for line in snippet.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            check_command(words)


def check_command(words: list[str]) -> None:
    """Fails when a command of the documentation cannot be given."""
    program, *arguments = words
    if program == "agentpool":
        parse_agentpool(arguments)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert not [one for one in arguments if "=" not in one and one not in targets]
    elif program == "kubectl":
        check_kubectl(arguments)
    elif program == "helm":
        check_helm(arguments)
    else:
        assert program in PROGRAMS, f"{program} is not a command that this test knows"


def parse_agentpool(arguments: list[str]) -> None:
    """Fails when the program does not take the arguments, or a manifest of the repository is missing."""
    try:
        options = build_parser("agentpool").parse_args(arguments)
    except SystemExit as exc:
        assert exc.code == 0, f"agentpool does not take {arguments}"
        return
    manifest = getattr(options, "manifest", "")
    assert "/" not in manifest or (ROOT / manifest).is_file(), f"{manifest} is not in the repository"


@pytest.mark.parametrize("snippet", of_kind("run"))
def test_python_runs_by_itself(snippet: Snippet) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT / snippet.options.get("app-dir", "."))}
    done = subprocess.run(
        [sys.executable, "-c", snippet.code], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", of_kind("pool"))
def test_blocks_run_against_their_pool(snippet: Snippet, pools: dict[str, DevPool]) -> None:
    pool = pools[snippet.options["pool"]]
    done = run_against(pool, snippet)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) is ("fails" in snippet.options), output + pool.log.read_text()
    assert snippet.options.get("expect", "") in output


def run_against(pool: DevPool, snippet: Snippet) -> subprocess.CompletedProcess[str]:
    """Run a block as it is written, but for the ports of the pool."""
    code = snippet.code.replace("127.0.0.1:8000", f"127.0.0.1:{pool.rest_port}")
    code = code.replace("127.0.0.1:9000", f"127.0.0.1:{pool.grpc_port}")
    programs = str(Path(sys.executable).parent)
    environ = {**os.environ, "AGENTPOOL_URL": pool.url, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", code] if snippet.language == "python" else ["sh", "-euc", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, cwd=ROOT)
