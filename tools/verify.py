# SPDX-License-Identifier: Apache-2.0
"""Fail when a generated file is not what `make generate` writes: `make verify`."""

from __future__ import annotations

import sys

from tools.generate import ROOT, generated, stale


def main() -> int:
    """Compare, and name the command that mends it."""
    wanted = generated()
    differing = stale(wanted, ROOT)
    if differing:
        print("\n".join([*differing, "Run: make generate"]), file=sys.stderr)
        return 1
    print(f"{len(wanted)} generated files are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
