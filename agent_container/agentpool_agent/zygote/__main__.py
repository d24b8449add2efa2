# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_agent.zygote`: see `agentpool_agent.zygote`."""

from __future__ import annotations

import gc
import os
import signal

# A container's first process ignores a signal without a handler. Before the host is reached no worker lives
# that the zygote would have to outlast.
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # What is imported stays, and the zygote never looks for garbage.
    gc.disable()

# Numeric libraries start a thread per core when they are imported, and a process with threads cannot fork.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m agentpool_agent.zygote")
    parser.add_argument("--socket", type=Path, required=True, help="the host's socket")
    parser.add_argument("--entrypoint", required=True, help="package.module:Class of the agent")
    parser.add_argument("--app-dir", type=Path, action="append", default=[], help="put on the import path")
    parser.add_argument("--work-dir", type=Path, help="where workers get their own directories")
    parser.add_argument(
        "--connect-seconds", type=float, default=30.0, help="how long to try to reach the host"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Run a zygote from the command line."""
    # Without -P Python puts the current directory first; what lies there is not the agent's code.
    if not sys.flags.safe_path:
        sys.path.pop(0)
    from agentpool_agent.zygote.boot import Settings, run

    given = parse(sys.argv[1:])
    return run(
        Settings(given.socket, given.entrypoint, tuple(given.app_dir), given.work_dir, given.connect_seconds)
    )


if __name__ == "__main__":
    sys.exit(main())
