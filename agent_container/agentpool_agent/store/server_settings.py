# SPDX-License-Identifier: Apache-2.0
"""Which settings of a Redis server endanger the state that it keeps."""

from __future__ import annotations

from collections.abc import Sequence

from agentpool_core.errors import StoreUnavailable

from .client import RedisClient
from .encoding import text


async def problems(client: RedisClient) -> Sequence[str]:
    """One sentence for each; none when the server does not tell. Raises StoreUnavailable."""
    try:
        settings = {
            name: text((await client.command("CONFIG", "GET", name))[1])
            for name in ("appendonly", "maxmemory-policy")
        }
    except (StoreUnavailable, IndexError):
        # A pool's own user may not read them; its administrator, the operator, looks instead.
        await client.command("PING")
        return ()
    found = []
    if settings["appendonly"] != "yes":
        found.append("The store loses everything when it restarts: set appendonly yes.")
    if settings["maxmemory-policy"] != "noeviction":
        found.append(
            "The store may drop state when its memory is full "
            f"(maxmemory-policy {settings['maxmemory-policy']}): set noeviction."
        )
    return found
