# SPDX-License-Identifier: Apache-2.0
"""`make deploy`: this checkout's images and chart on the cluster of `.devcluster/env`.

An image's tag is the hash of what it is made of, so an unchanged one is not built again, and a changed one is
rolled out. Run after `make cluster-up`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.devcluster import commands, environment
from tools.devcluster import topology as t
from tools.devcluster.console import complain, say, step
from tools.devcluster.places import CHECKOUT
from tools.devcluster.problem import Exit, Problem
from tools.devcluster.shell import run

NAMESPACE = "agentpool-system"
RELEASE = "agentpool"
REGISTRY = "localhost"
READY_SECONDS = 240
SHARED = ("core/agentpool_core", "core/agentpool_proto", "core/agentpool_rpc", "requirements")


@dataclass(frozen=True)
class Image:
    """One image of the product.

    Attributes:
        name: the last part of its repository and the chart's value.
        dockerfile, sources: what it is made of, relative to the checkout.
    """

    name: str
    dockerfile: str
    sources: tuple[str, ...]

    @property
    def repository(self) -> str:
        """Without registry and tag."""
        return f"agentpool/{self.name}"


IMAGES = (
    Image("agent", "agent_container/Dockerfile", (*SHARED, "agent_container/agentpool_agent")),
    Image("gateway", "gateway/Dockerfile", (*SHARED, "gateway/agentpool_gateway")),
    Image("operator", "operator/Dockerfile", (*SHARED, "operator/agentpool_operator")),
    Image("redis", "images/redis/Dockerfile", ("images/redis",)),
)


def files(places: Iterable[str]) -> list[Path]:
    """What an image is made of, in a stable order, without what Python and editors leave behind."""
    found: set[Path] = set()
    for place in places:
        path = CHECKOUT / place
        found.update([path] if path.is_file() else path.rglob("*"))
    return sorted(one for one in found if one.is_file() and "__pycache__" not in one.parts)


def tag(image: Image) -> str:
    """Twelve characters that change with any file of the image."""
    digest = hashlib.sha256()
    for path in files((image.dockerfile, *image.sources)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CHECKOUT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def variables() -> dict[str, str]:
    """What `.devcluster/env` exports, with its directories in front of PATH. Problem when there is none."""
    path = environment.path_of(CHECKOUT)
    if not path.exists():
        raise Problem("no cluster is up from this checkout", "run `make cluster-up`", Exit.NOT_RUNNING)
    text = path.read_text()
    search = os.pathsep.join([*environment.directories_of(text), os.environ.get("PATH", "")])
    return {**environment.variables_of(text), "PATH": search}


def present(env: dict[str, str]) -> set[str]:
    """Names of the images that the cluster's nodes report."""
    names = "{.items[*].status.images[*].names[*]}"
    return set(run(["kubectl", "get", "nodes", "-o", f"jsonpath={names}"], env=env).split())


def build(env: dict[str, str], tags: dict[str, str]) -> None:
    """Build and load what is not there."""
    there = present(env)
    for image in IMAGES:
        name = f"{REGISTRY}/{image.repository}:{tags[image.name]}"
        if name in there:
            continue
        code = commands.main(["image", name, str(CHECKOUT), "--file", str(CHECKOUT / image.dockerfile)])
        if code != Exit.OK:
            raise Problem(f"{name} was not built", "see the error above")


def install(env: dict[str, str], tags: dict[str, str], extra: Sequence[str]) -> None:
    """Install or upgrade the release and wait until it is ready."""
    values = [f"{name}.image.tag={value}" for name, value in tags.items()]
    values += [f"image.registry={REGISTRY}", "gateway.service.type=NodePort"]
    values += [f"gateway.service.httpNodePort={t.GATEWAY_NODE_PORT}", "gateway.defaultPool=default/support"]
    command: list[str | Path] = ["helm", "upgrade", "--install", RELEASE, CHECKOUT / "charts" / "agentpool"]
    command += ["--namespace", NAMESPACE, "--create-namespace", "--wait", f"--timeout={READY_SECONDS}s"]
    for value in (*values, *extra):
        command += ["--set", value]
    remedy = f"`kubectl -n {NAMESPACE} get pods,events` shows what is not ready"
    with step("installing the chart and waiting until it is ready"):
        run(command, env=env, timeout_seconds=READY_SECONDS + 30, remedy=remedy)


def deploy(extra: Sequence[str] = ()) -> None:
    """Images, then the chart. Problem when something is missing or does not become ready."""
    env = variables()
    tags = {image.name: tag(image) for image in IMAGES}
    build(env, tags)
    install(env, tags, extra)


def main() -> int:
    """Deploy; the exit code is that of the problem, if there is one."""
    parser = argparse.ArgumentParser(prog="python3 tools/deploy.py", description=__doc__)
    parser.add_argument("--set", action="append", default=[], help="a further value of the chart")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        deploy(options.set)
    except Problem as problem:
        complain(problem)
        return problem.code
    say(f"deployed in {time.monotonic() - began:.1f} s; use it with: . .devcluster/env")
    return 0


if __name__ == "__main__":
    sys.exit(main())
