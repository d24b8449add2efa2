# SPDX-License-Identifier: Apache-2.0
"""`make flags-demo`: a rollout and a rollback of agent_pool_enabled on this machine, without a cluster.

Starts `agentpool dev` on free ports and runs examples/03-feature-flags/rollout.py against it. PROJECTS=400
says how many projects take part.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from tools.demo_local import READY_SECONDS, ended
from tools.quickstart import ROOT

EXAMPLE = ROOT / "examples/03-feature-flags"


def main() -> int:
    """Run the demonstration; its exit code is that of the example."""
    command = [sys.executable, "-m", "agentpool_cli", "dev", str(EXAMPLE / "pool.yaml")]
    pool = subprocess.Popen(
        [*command, "--port", "0", "--grpc-port", "0", "--no-reload"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    with ended(pool):
        url = _address(pool)
        environ = {**os.environ, "AGENTPOOL_URL": url}
        projects = os.environ.get("PROJECTS") or "400"
        done = subprocess.run(
            [sys.executable, str(EXAMPLE / "rollout.py"), "--projects", projects], env=environ, check=False
        )
        return done.returncode


def _address(pool: subprocess.Popen[str]) -> str:
    end = time.monotonic() + READY_SECONDS
    for line in pool.stdout or ():
        found = re.search(r"REST +(http://127\.0\.0\.1:\d+)", line)
        if found:
            return found.group(1)
        if time.monotonic() > end:
            break
    raise SystemExit("The pool did not start: run `agentpool dev examples/03-feature-flags/pool.yaml`.")


if __name__ == "__main__":
    sys.exit(main())
