# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_operator`."""

from __future__ import annotations

import asyncio
import os
import sys

from agentpool_operator.app import App
from agentpool_operator.settings import Settings, read_settings
from agentpool_rpc.logs import configure_logs


async def _run(settings: Settings) -> int:
    return await App(settings).run()


def main() -> int:
    """Run the operator."""
    try:
        settings = read_settings(os.environ)
        configure_logs("operator", settings.log_level, settings.log_pretty)
    except ValueError as exc:
        print(f"agentpool-operator: {exc}", file=sys.stderr)  # noqa: T201
        return 2
    return asyncio.run(_run(settings))


if __name__ == "__main__":
    sys.exit(main())
