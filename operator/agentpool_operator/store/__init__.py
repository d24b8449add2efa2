# SPDX-License-Identifier: Apache-2.0
"""Redis as its administrator: a user for each pool, limited to the pool's keys."""

from agentpool_operator.store.access import PoolAccess, StoreAdmin, StoreAway, pool_url

__all__ = ["PoolAccess", "StoreAdmin", "StoreAway", "pool_url"]
