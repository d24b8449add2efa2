# SPDX-License-Identifier: Apache-2.0
"""The images share their layers, bring what they need and no more, and run as users of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentpool_core import cluster
from support.repository import ROOT

OURS = {
    "operator": ROOT / "operator/Dockerfile",
    "gateway": ROOT / "gateway/Dockerfile",
    "agent": ROOT / "agent_container/Dockerfile",
}
ALL = {**OURS, "redis": ROOT / "images/redis/Dockerfile"}
LOCKS = ("base", "kubernetes", *OURS)
EACH = pytest.mark.parametrize("path", ALL.values(), ids=ALL)


def instructions(path: Path) -> list[str]:
    """The instructions of a Dockerfile, comments left out and lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


def pins(name: str) -> dict[str, str]:
    """Package and version of each entry of a lock."""
    text = (ROOT / f"requirements/{name}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", text, re.MULTILINE))


@EACH
def test_the_base_can_be_replaced(path: Path) -> None:
    first, second = instructions(path)[:2]
    assert first.startswith("ARG BASE=")
    assert second == "FROM ${BASE}"


@pytest.mark.parametrize(
    ("lock", "images"),
    [
        pytest.param("base", tuple(OURS), id="all share the layer with the base"),
        pytest.param(
            "kubernetes", ("operator", "gateway"), id="two share the layer with the cluster's client"
        ),
    ],
)
def test_images_begin_with_the_same_layers(lock: str, images: tuple[str, ...]) -> None:
    heads = set()
    for name in images:
        whole = instructions(OURS[name])
        last = next(number for number, line in enumerate(whole) if f"requirements/{lock}.lock" in line)
        heads.add(tuple(whole[: last + 2]))
    assert len(heads) == 1


@pytest.mark.parametrize("path", OURS.values(), ids=OURS)
def test_our_code_comes_after_what_is_installed(path: Path) -> None:
    whole = instructions(path)
    ours = [number for number, line in enumerate(whole) if line.startswith("COPY") and "agentpool_" in line]
    installs = [number for number, line in enumerate(whole) if "pip" in line and line.startswith("RUN")]
    assert max(installs) < min(ours)


@pytest.mark.parametrize("path", OURS.values(), ids=OURS)
def test_packages_are_installed_by_hash_and_pip_stays_behind(path: Path) -> None:
    for line in instructions(path):
        if line.startswith("RUN") and "/bin/pip" in line:
            assert "--require-hashes" in line
            assert "--no-deps" in line
            assert "rm -rf /tmp/installer" in line


@EACH
def test_it_runs_as_a_user_of_its_own_given_by_number(path: Path) -> None:
    users = [line.split()[1] for line in instructions(path) if line.startswith("USER")]
    assert len(users) == 1
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[0])


def test_the_agent_image_runs_as_the_workers_unless_told_otherwise() -> None:
    assert f"USER {cluster.WORKERS_UID}:{cluster.POD_GID}" in instructions(OURS["agent"])


@pytest.mark.parametrize("path", OURS.values(), ids=OURS)
def test_python_never_imports_from_where_it_is_started(path: Path) -> None:
    assert any("PYTHONSAFEPATH=1" in line for line in instructions(path) if line.startswith("ENV"))


@EACH
def test_everything_copied_is_in_the_repository_and_reaches_the_build(path: Path) -> None:
    let_in = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    for line in instructions(path):
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert source.partition("/")[0] in let_in, source


@pytest.mark.parametrize(
    ("image", "absent"),
    [
        ("agent", {"kopf", "kubernetes", "starlette", "uvicorn", "aiohttp"}),
        ("gateway", {"kopf", "redis"}),
        ("operator", {"starlette", "uvicorn"}),
        ("base", {"kopf", "kubernetes", "redis", "starlette"}),
    ],
)
def test_an_image_has_nothing_that_is_another_ones(image: str, absent: set[str]) -> None:
    assert pins(image).keys() & absent == set()


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_shipped_is_what_was_tested(name: str) -> None:
    tested = pins("dev")
    shipped = pins(name)
    assert len(shipped) > 10
    assert {package: version for package, version in shipped.items() if tested.get(package) != version} == {}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_hashed_and_name_no_index(name: str) -> None:
    text = (ROOT / f"requirements/{name}.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_every_image_has_what_the_base_brings() -> None:
    for name in OURS:
        assert pins("base").items() <= pins(name).items()
