# SPDX-License-Identifier: Apache-2.0
"""Measurements on this machine; docs/howto/measure.md tells how to read them."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks import bench, compare, neighbours, overload, readme, soak

COMMANDS = {
    "run": bench,
    "compare": compare,
    "overload": overload,
    "neighbours": neighbours,
    "soak": soak,
    "readme": readme,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 1: a demand is not held; 2: nothing can be said, with the reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        doc = (module.__doc__ or "").partition("\n")[0]
        module.add_options(commands.add_parser(name, help=doc, description=doc))
    options = parser.parse_args(arguments)
    # As after Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code: int = COMMANDS[options.command].run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
