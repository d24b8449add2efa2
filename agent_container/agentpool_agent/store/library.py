# SPDX-License-Identifier: Apache-2.0
"""Loads redis-py without the metrics of OpenTelemetry, before anything of it is used.

redis-py imports OpenTelemetry's SDK of metrics wherever it is installed, for series of its own that are off
until someone asks for them. Nobody does here, and the SDK is a tenth of what a host imports at its start.
"""

from __future__ import annotations

import sys
from typing import Any, cast

_UNUSED = "opentelemetry.sdk.metrics"

if _UNUSED not in sys.modules:
    # None makes an import fail as if the package were missing, which redis-py is ready for.
    cast(dict[str, Any], sys.modules)[_UNUSED] = None
    try:
        import redis.asyncio  # noqa: F401
    finally:
        del sys.modules[_UNUSED]
