# SPDX-License-Identifier: Apache-2.0
"""The program `agentpool`, also found by kubectl as `kubectl agentpool`.

Only the parser is imported at start; a command imports what it needs when it runs, so that `--help` and
shell completion stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agentpool_cli.arguments import build_parser, run_of, with_default_action
from agentpool_cli.usage import PLUGIN
from agentpool_core.errors import AgentPoolError

OK = 0
FAILED = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(program_name(sys.argv[0]))
    options = parser.parse_args(with_default_action(arguments))
    try:
        return run_of(options)(options, os.environ)
    except AgentPoolError as exc:
        sys.stderr.write(describe(exc))
        return FAILED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain again at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED


def program_name(path: str) -> str:
    """How the user called the program: as a kubectl plugin or by itself."""
    return PLUGIN if Path(path).name.startswith("kubectl-") else "agentpool"


def describe(error: AgentPoolError) -> str:
    """The error as the user reads it: what happened, its code and what to do."""
    lines = [f"error: {error.message}", f"  code: {error.code}", f"  remedy: {error.hint}"]
    if error.retry_after_seconds:
        lines.append(f"  retry after: {error.retry_after_seconds:.1f} s")
    return "\n".join(lines) + "\n"
