# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_cli.dev.bound PARENT COMMAND...`: becomes COMMAND, which gets SIGTERM when its
parent process ends, however that happens."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to the life of its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    # The setting survives exec, as the commands have no set-uid bit.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the parent process has ended")
    os.execvp(command[0], command)  # noqa: S606  # our own command line, no shell


if __name__ == "__main__":
    main()
