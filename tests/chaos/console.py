# SPDX-License-Identifier: Apache-2.0
"""Lines for who watches the run."""

from __future__ import annotations

import sys
import time


def say(text: str) -> None:
    """One line with the time, at once."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
