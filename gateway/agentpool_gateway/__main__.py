# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_gateway`."""

from __future__ import annotations

import sys

from agentpool_gateway.app import main

if __name__ == "__main__":
    sys.exit(main())
