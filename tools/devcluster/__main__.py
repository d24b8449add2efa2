# SPDX-License-Identifier: Apache-2.0
"""Entry point of `python3 tools/devcluster`; runs before any virtual environment exists."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a directory, Python puts only that directory on the path; the package is imported from the root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.devcluster.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
