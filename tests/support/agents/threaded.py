# SPDX-License-Identifier: Apache-2.0
"""An agent whose import starts a thread: it cannot be forked."""

from __future__ import annotations

import threading
import time

from support.agents.counter import Counter

threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


class Threaded(Counter):
    """A counter, if it could be forked."""
