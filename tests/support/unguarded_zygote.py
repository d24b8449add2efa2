# SPDX-License-Identifier: Apache-2.0
"""A zygote whose workers lack the guards named by `--off`, to show in a test what a guard is good for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agentpool_agent.zygote.boot import Settings, run


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--entrypoint", required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--app-dir", type=Path, action="append", default=[])
    parser.add_argument("--off", action="append", default=[])
    given = parser.parse_args()
    return run(
        Settings(
            given.socket, given.entrypoint, tuple(given.app_dir), given.work_dir, off=frozenset(given.off)
        )
    )


if __name__ == "__main__":
    sys.exit(main())
