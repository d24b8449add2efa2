# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_agent.store`: tell the Redis of AGENTPOOL_REDIS_URL that a pool is new.

For whoever creates a pool. An empty Redis is then a new one, not one that lost its data. Exit code 1, with
the cause as the last line, when that Redis cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from agentpool_agent.store import open_store
from agentpool_core.errors import AgentPoolError

FAILED = 1


async def initialise(url: str, pool_uid: str, namespace: str, pool: str) -> None:
    """Make the pool known to the store, if it is not. Raises StoreUnavailable."""
    store = open_store(url, pool_uid=pool_uid, namespace=namespace, pool=pool)
    try:
        await store.initialise()
    finally:
        await store.close()


def main() -> int:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(prog="agentpool-store", description=__doc__)
    for name in ("--pool-uid", "--namespace", "--pool"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    url = os.environ.get("AGENTPOOL_REDIS_URL")
    if not url:
        parser.error("AGENTPOOL_REDIS_URL is not set")
    try:
        asyncio.run(initialise(url, options.pool_uid, options.namespace, options.pool))
    except AgentPoolError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return FAILED
    except ValueError as exc:
        sys.stderr.write(f"The URL is wrong: {exc}\n")
        return FAILED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
