# SPDX-License-Identifier: Apache-2.0
"""The Python client of AgentPool without asyncio. May be used from several threads."""

from __future__ import annotations

from agentpool_client._sync.handle import Handle
from agentpool_client._sync.instances import Instances
from agentpool_client._sync.pool import AgentPool
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
