# SPDX-License-Identifier: Apache-2.0
"""Every operation on an instance in every state, over REST and gRPC, against a real host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import httpx
import pytest

from agentpool_core.config import RecoveryConfig
from agentpool_core.lifecycle import State
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from agentpool_rpc.status import from_rpc_error
from support.agents.staged import SLOW_SECONDS
from support.hosts import instance_id, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

BUSY_SECONDS = 6.0
STATES = ("absent", "initializing", "ready", "busy", "paused", "evicted", "error")
OPERATIONS = ("pause", "resume", "terminate", "move")
OVER_REST = {
    "pause": ("POST", "/pause"),
    "resume": ("POST", "/resume"),
    "terminate": ("DELETE", ""),
    "move": ("PUT", "/tier"),
}
OVER_GRPC = {
    "pause": "PauseInstance",
    "resume": "ResumeInstance",
    "terminate": "TerminateInstance",
    "move": "MoveInstance",
}

EXPECTED = {
    "absent": dict.fromkeys(OPERATIONS, "InstanceNotFound"),
    "initializing": {
        "pause": "IllegalTransition",
        "resume": "IllegalTransition",
        "terminate": "IllegalTransition",
        "move": "READY",
    },
    "ready": {"pause": "PAUSED", "resume": "IllegalTransition", "terminate": "TERMINATED", "move": "READY"},
    "busy": {
        "pause": "BUSY Pause",
        "resume": "IllegalTransition",
        "terminate": "BUSY Terminate",
        "move": "BUSY",
    },
    "paused": {"pause": "IllegalTransition", "resume": "READY", "terminate": "TERMINATED", "move": "PAUSED"},
    "evicted": {"pause": "PAUSED", "resume": "READY", "terminate": "TERMINATED", "move": "PAUSED"},
    "error": {
        "pause": "IllegalTransition",
        "resume": "AgentCreationFailed",
        "terminate": "TERMINATED",
        "move": "ERROR",
    },
}
"""What each operation answers: the state and wish after it, or an error's code."""
PREFIX = {"initializing": "slow-", "error": "broken-"}


@pytest.fixture
async def spine() -> AsyncIterator[Spine]:
    config = pool_config(agent="support.agents.staged:Staged", storage="Redis", instances_per_host=100)
    config = config.model_copy(update={"recovery": RecoveryConfig(enabled=False)})
    async with running_spine(config) as running:
        yield running


class Life:
    """Brings one instance into a state and keeps what belongs to that."""

    def __init__(self, spine: Spine, client: httpx.AsyncClient, state: str, project: str) -> None:
        self.spine, self.client, self.state = spine, client, state
        self.project = PREFIX.get(state, "") + project
        self.id = instance_id("acme", self.project)
        self.background: asyncio.Task[httpx.Response] | None = None

    async def begin(self) -> None:
        """Be in the state."""
        if self.state == "busy":
            self.background = asyncio.create_task(self.spine.invoke(self.project, BUSY_SECONDS))
        elif self.state == "initializing":
            body = {"tenant_id": "acme", "project_id": self.project}
            self.background = asyncio.create_task(self.client.post("/instances", json=body))
        elif self.state != "absent":
            await self.spine.invoke(self.project, "hello")
        if self.state == "paused":
            assert (await self.client.post(f"/instances/{self.id}/pause")).status_code == 200
        if self.state == "evicted":
            assert (await self.client.post(f"/instances/{self.id}/pause")).status_code == 200
            # Lifted by an import of its own state: nobody holds it then, and nobody paused it.
            archive = (await self.client.get(f"/instances/{self.id}/checkpoint")).content
            params = {"tenant_id": "acme", "project_id": self.project, "replace": "true"}
            assert (await self.client.put("/checkpoints", params=params, content=archive)).status_code == 201
        if self.state != "absent":
            await eventually(self.is_there, SLOW_SECONDS)

    async def is_there(self) -> bool:
        found = (await self.client.get(f"/instances/{self.id}")).json()
        state = State.PAUSED if self.state == "evicted" else self.state.upper()
        return bool(found.get("state") == state)

    async def end(self) -> None:
        """Leave nothing running."""
        if self.background is not None:
            await self.background


async def over_rest(spine: Spine, life: Life, operation: str) -> str:
    method, path = OVER_REST[operation]
    body = {"tier": "WARM"} if operation == "move" else None
    answer = await life.client.request(method, f"/instances/{life.id}{path}", json=body)
    document = answer.json()
    if answer.is_error:
        assert document["remedy"]
        return str(document["code"])
    assert (answer.status_code == 202) == bool(document["wish"])
    return f"{document['state']} {document['wish']}".strip()


async def over_grpc(spine: Spine, life: Life, operation: str) -> str:
    more = {"tier": "WARM"} if operation == "move" else {}
    kind: Any = gateway_pb2.MoveInstanceRequest if more else gateway_pb2.PoolInstanceRequest
    async with grpc.aio.insecure_channel(spine.gateways[0].grpc_address) as channel:
        stub = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        call = getattr(stub, OVER_GRPC[operation])
        try:
            answer = await call(kind(instance_id=life.id, **more), timeout=30)
        except grpc.aio.AioRpcError as exc:
            error = from_rpc_error(exc)
            assert error is not None
            return error.code
    return f"{answer.state} {answer.wish}".strip()


Edge = Callable[[Spine, Life, str], Awaitable[str]]


@pytest.mark.parametrize("edge", [over_rest, over_grpc])
async def test_every_operation_in_every_state(spine: Spine, edge: Edge) -> None:
    found: dict[str, dict[str, str]] = {}
    async with httpx.AsyncClient(base_url=spine.gateways[0].url + "/api/v1/pool", timeout=60) as client:

        async def attempt(state: str, operation: str) -> None:
            life = Life(spine, client, state, f"{edge.__name__}-{state}-{operation}")
            await life.begin()
            found.setdefault(state, {})[operation] = await edge(spine, life, operation)
            await life.end()

        for state in STATES:
            await asyncio.gather(*(attempt(state, operation) for operation in OPERATIONS))
    assert found == EXPECTED


async def test_an_instance_in_error_shows_its_cause_and_is_tried_again_on_resume_only(spine: Spine) -> None:
    async with httpx.AsyncClient(base_url=spine.gateways[0].url + "/api/v1/pool", timeout=60) as client:
        life = Life(spine, client, "error", "shown")
        await life.begin()
        shown = (await client.get(f"/instances/{life.id}")).json()
        assert (shown["state"], shown["recovery"]["cause"], shown["recovery"]["failures"]) == (
            "ERROR",
            "SetupFailed",
            1,
        )
        assert "no database" in shown["recovery"]["message"]
        assert (await spine.invoke(life.project, "hello")).json()["code"] == "InstanceFailed"
        assert (await client.post(f"/instances/{life.id}/resume")).json()["code"] == "AgentCreationFailed"

        async def has_failed_again() -> bool:
            # While it is tried, nothing is said of the failures before.
            again = (await client.get(f"/instances/{life.id}")).json()["recovery"]
            return again is not None and bool(again["failed_at"] > shown["recovery"]["failed_at"])

        await eventually(has_failed_again, 10)
