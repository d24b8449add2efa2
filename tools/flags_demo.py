# SPDX-License-Identifier: Apache-2.0
"""`make flags-demo`: a rollout and a rollback of agent_pool_enabled by examples/03-feature-flags/rollout.py.

On this machine, with `agentpool dev` on free ports; with --cluster on real pods, through every gateway of the
deployed release. PROJECTS=400 says how many projects take part.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from tools import deploy
from tools.demo import READY_SECONDS, kubectl
from tools.demo_local import ended
from tools.devcluster.console import complain, step
from tools.devcluster.problem import Problem
from tools.quickstart import ROOT

EXAMPLE = ROOT / "examples/03-feature-flags"
MANIFESTS = [word for name in ("pool.yaml", "access.yaml") for word in ("-f", str(EXAMPLE / name))]
GATEWAYS = "app.kubernetes.io/component=gateway"


def main() -> int:
    """Run the demonstration; its exit code is that of the example."""
    if "--cluster" not in sys.argv[1:]:
        return on_this_machine()
    try:
        return on_cluster({**os.environ, **deploy.variables()})
    except Problem as problem:
        complain(problem)
        return problem.code


def on_this_machine() -> int:
    """With processes of the pool alone."""
    command = [sys.executable, "-m", "agentpool_cli", "dev", str(EXAMPLE / "pool.yaml")]
    with started([*command, "--port", "0", "--grpc-port", "0", "--no-reload"], os.environ) as pool:
        url = first_match(pool, r"REST +(http://127\.0\.0\.1:\d+)")
        return roll_out({**os.environ, "AGENTPOOL_URL": url}, [])


def on_cluster(env: Mapping[str, str]) -> int:
    """With a pool on real pods, asked through each gateway's own port."""
    try:
        with step("applying the pool and its caller, and waiting for its first shared pod"):
            kubectl(env, "-n", "default", "apply", *MANIFESTS)
            limit = f"--timeout={READY_SECONDS}s"
            words = ["-n", "default", "wait", "--for=condition=Ready", limit, "agentpool/rollout"]
            kubectl(env, *words, seconds=READY_SECONDS + 10)
        token = kubectl(env, "-n", "default", "create", "token", "rollout", "--audience=agentpool").strip()
        pods = kubectl(env, "-n", deploy.NAMESPACE, "get", "pods", "-l", GATEWAYS, "-o", "name").split()
        with ExitStack() as stack:
            urls = [stack.enter_context(forwarded(env, pod)) for pod in pods]
            words = [word for url in urls for word in ("--gateway", url)]
            return roll_out({**env, "AGENTPOOL_TOKEN": token}, ["--pool", "default/rollout", *words])
    finally:
        kubectl(env, "-n", "default", "delete", "--ignore-not-found", *MANIFESTS, seconds=90)


@contextmanager
def forwarded(env: Mapping[str, str], pod: str) -> Iterator[str]:
    """The URL of a gateway's REST port on this machine."""
    with started(["kubectl", "-n", deploy.NAMESPACE, "port-forward", pod, ":8000"], env) as process:
        yield first_match(process, r"Forwarding from (127\.0\.0\.1:\d+)", "http://")


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose output can be read; ended at the end of the block."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=dict(env)
    )
    with ended(process):
        yield process


def roll_out(env: Mapping[str, str], more: Sequence[str]) -> int:
    """Run the example."""
    projects = os.environ.get("PROJECTS") or "400"
    command = [sys.executable, str(EXAMPLE / "rollout.py"), "--projects", projects, *more]
    return subprocess.run(command, env=dict(env), check=False).returncode


def first_match(process: subprocess.Popen[str], pattern: str, prefix: str = "") -> str:
    """What a process says of itself; exits when it ends, or takes too long, without having said it."""
    end = time.monotonic() + READY_SECONDS
    for line in process.stdout or ():
        found = re.search(pattern, line)
        if found:
            return prefix + found.group(1)
        if time.monotonic() > end:
            break
    raise SystemExit(f"error: {process.args!r} did not say where it listens")


if __name__ == "__main__":
    sys.exit(main())
