# SPDX-License-Identifier: Apache-2.0
"""The clusters this tool does not run itself: the one a user points at, and kind's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.devcluster import topology as t
from tools.devcluster.console import step
from tools.devcluster.places import CHECKOUT
from tools.devcluster.problem import Exit, Problem
from tools.devcluster.shell import find, run

CLIENTS = ("kubectl", "helm")
# The name in kind-config.yaml.
KIND_CLUSTER = "agentpool"
# Pulling kind's node image is most of it.
KIND_SECONDS = 600


def use_context(context: str, kubeconfig: Path) -> None:
    """Write a kubeconfig that holds the user's context alone, and see that its API server answers.

    The user's own kubeconfig and current context stay as they are.
    """
    _need(CLIENTS)
    view = ["kubectl", "config", "view", "--raw", "--flatten", "--minify", "--context", context]
    remedy = "`kubectl config get-contexts` lists the contexts that are there"
    _write_private(kubeconfig, run(view, remedy=remedy))
    with step(f"asking the API server of {context}"):
        reach: list[str | Path] = [
            "kubectl",
            "--kubeconfig",
            kubeconfig,
            "get",
            "--raw",
            "/readyz",
            "--request-timeout=10s",
        ]
        run(reach, timeout_seconds=20, remedy=f"see that `kubectl --context {context} get nodes` answers")


def kind_up(kubeconfig: Path) -> None:
    """Create kind's cluster from kind-config.yaml unless it is there, and write its kubeconfig."""
    _need(CLIENTS)
    if KIND_CLUSTER not in run(["kind", "get", "clusters"]).split():
        with step("creating the kind cluster"):
            config: list[str | Path] = [
                "--config",
                CHECKOUT / "kind-config.yaml",
                "--kubeconfig",
                kubeconfig,
                "--wait",
                "120s",
            ]
            run(["kind", "create", "cluster", *config], timeout_seconds=KIND_SECONDS)
    _write_private(kubeconfig, run(["kind", "get", "kubeconfig", "--name", KIND_CLUSTER]))
    with step("asking its API server"):
        wait = ["wait", "--for=condition=Ready", "node", "--all", "--timeout=90s"]
        run(["kubectl", "--kubeconfig", kubeconfig, *wait], timeout_seconds=100)


def kind_down() -> None:
    """Delete kind's cluster, if it is there."""
    if KIND_CLUSTER in run(["kind", "get", "clusters"]).split():
        with step("deleting the kind cluster"):
            run(["kind", "delete", "cluster", "--name", KIND_CLUSTER], timeout_seconds=120)


def kind_load(image: str) -> None:
    """Put an image of the Docker engine onto kind's node."""
    run(["kind", "load", "docker-image", image, "--name", KIND_CLUSTER], timeout_seconds=300)


def client_directories() -> list[str]:
    """Where kubectl and helm of this machine are."""
    return sorted({str(Path(path).parent) for client in CLIENTS if (path := find(client)) is not None})


def gateway_url() -> str:
    """Where kind-config.yaml makes the gateway's NodePort answer."""
    return f"http://127.0.0.1:{t.GATEWAY_NODE_PORT}"


def _need(programs: Sequence[str]) -> None:
    without = [program for program in programs if find(program) is None]
    if without:
        names = " and ".join(without)
        raise Problem(f"{names} not found", f"install {names} and try again", Exit.NO_CLUSTER)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
