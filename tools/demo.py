# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the quickstart on a real Kubernetes, from an empty machine to answers in three tiers.

Where no cluster can be had, it says why and runs the quickstart without one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import httpx

from tools import deploy
from tools.devcluster import commands, environment
from tools.devcluster.console import complain, step
from tools.devcluster.places import CHECKOUT
from tools.devcluster.problem import Exit, Problem
from tools.devcluster.shell import run
from tools.quickstart import EXAMPLE, DemoFailed, ask, print_table, questions, say, teach

TIERS = {"acme/handbook": "HOT", "acme/travel": "COLD", "bistro/kitchen": "WARM"}
"""Which project is in which tier: the busy one has a pod of its own, the rare one gets one on demand."""
TOKEN_HOURS = 24
READY_SECONDS = 120
ANSWER_SECONDS = 60.0


def kubectl(env: Mapping[str, str], *words: str, seconds: float = 60) -> str:
    """Run kubectl against the cluster."""
    return run(["kubectl", *words], env=env, timeout_seconds=seconds)


def token(env: Mapping[str, str]) -> str:
    """A bearer token with every verb on the pool, also written to `.devcluster/env`."""
    duration = f"--duration={TOKEN_HOURS}h"
    words = ["-n", "default", "create", "token", "demo", "--audience=agentpool", duration]
    value = kubectl(env, *words).strip()
    environment.extend(CHECKOUT, {"AGENTPOOL_TOKEN": value})
    return value


def apply(env: Mapping[str, str]) -> None:
    """The pool, its HOT instance and who may call it; then wait until the pool is ready."""
    with step("applying the quickstart's pool, its HOT instance and its caller"):
        for name in ("pool.yaml", "instances.yaml", "access.yaml"):
            kubectl(env, "apply", "-n", "default", "-f", str(EXAMPLE / name))
    with step("waiting until the pool is ready"):
        wait = ["wait", "--for=condition=Ready", f"--timeout={READY_SECONDS}s"]
        kubectl(env, *wait, "-n", "default", "agentpool/support", seconds=READY_SECONDS + 10)
        kubectl(env, *wait, "-n", "default", "agentinstance/handbook", seconds=READY_SECONDS + 10)


def until_answering(client: httpx.Client) -> None:
    """Wait until the gateway's address answers: a NodePort is there a moment after its pods."""
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError as exc:
            if time.monotonic() > end:
                raise DemoFailed(f"the gateway does not answer at {client.base_url}: {exc}") from exc
        time.sleep(0.2)


def questions_and_answers(env: Mapping[str, str]) -> None:
    """Teach the three projects, ask them, and print what they answered."""
    headers = {"authorization": f"Bearer {token(env)}"}
    with httpx.Client(base_url=env["AGENTPOOL_URL"], headers=headers, timeout=ANSWER_SECONDS) as client:
        until_answering(client)
        teach(client, TIERS)
        print_table(ask(client, questions()))


def without_cluster(argv: Sequence[str]) -> int:
    """The quickstart as plain processes."""
    say("running the quickstart without a cluster instead")
    return subprocess.run(
        [sys.executable, "-m", "tools.demo_local", *argv], cwd=CHECKOUT, check=False
    ).returncode


def main() -> int:
    """From nothing to answers; 0 when every answer held what it should."""
    code = commands.main(["up"])
    if code == Exit.NO_CLUSTER:
        return without_cluster(())
    if code != Exit.OK:
        return code
    try:
        deploy.deploy()
        env = deploy.variables()
        apply(env)
        questions_and_answers(env)
    except Problem as problem:
        complain(problem)
        return problem.code
    except (DemoFailed, httpx.HTTPError) as exc:
        say(f"error: {exc}")
        return 1
    say("done. Next: . .devcluster/env && kubectl get agentpools,agentinstances,pods")
    return 0


if __name__ == "__main__":
    sys.exit(main())
