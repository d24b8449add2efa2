# SPDX-License-Identifier: Apache-2.0
"""The Python client of AgentPool, for asyncio. `agentpool_client.sync` is the same without asyncio."""

from __future__ import annotations

from agentpool_client._async.handle import Handle
from agentpool_client._async.instances import Instances
from agentpool_client._async.pool import AgentPool
from agentpool_client.answers import Accepted, Answer, Chunk, Event, InstanceInfo, Stats
from agentpool_client.errors import AgentPoolError, ClientNotOpen, HandleReleased
from agentpool_client.retrying import RetryPolicy

__all__ = [
    "Accepted",
    "AgentPool",
    "AgentPoolError",
    "Answer",
    "Chunk",
    "ClientNotOpen",
    "Event",
    "Handle",
    "HandleReleased",
    "InstanceInfo",
    "Instances",
    "RetryPolicy",
    "Stats",
]
