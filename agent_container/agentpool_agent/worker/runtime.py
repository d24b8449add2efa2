# SPDX-License-Identifier: Apache-2.0
"""The life of one worker: wait for an Assign, become that instance, serve it until told to stop.

fork -> waiting --Assign--> guards on -> agent made, set up, restored --> Ready -> serving -> end
                                               `-- SetupFailed -> end
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agentpool_agent.authoring import Agent, Identity, Isolation
from agentpool_agent.wire.frames import (
    RESTORING,
    Assign,
    Cancel,
    Committed,
    Handle,
    Limits,
    Making,
    Ping,
    Pong,
    Ready,
    SetupFailed,
    Snapshot,
    Stop,
    ToWorker,
)
from agentpool_agent.worker.channel import Channel
from agentpool_agent.worker.commits import Commits, Terms
from agentpool_agent.worker.context import InstanceContext
from agentpool_agent.worker.gate import Gate
from agentpool_agent.worker.requests import HandlerRuns, cut
from agentpool_core.errors import AgentCreationFailed, AgentCreationTimeout, MemoryExceeded, RestoreFailed

log = logging.getLogger(__name__)

CONSTRUCTING = "the agent's constructor"

EXIT_OK = 0
EXIT_SETUP_FAILED = 3
EXIT_BROKEN = 4
"""The worker could not go on: a handler that cannot be stopped, a failed restore, a frame out of place."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the worker runs in.

    Attributes:
        make_agent: constructs the agent.
        directory: the worker's own directory.
        isolate: goes to the directory and puts the guards on, irrevocably; says which are in force.
        exit: ends the process at once with a status.
    """

    make_agent: Callable[[], Agent]
    directory: Path
    isolate: Callable[[Limits], Isolation]
    exit: Callable[[int], None]


class Worker:
    """One worker. `on_frame` is called for each frame of the host, on the loop."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._channel: Channel | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._assigned = False
        self._stage = ""
        self._gate = Gate(self._freed)
        self._commits: Commits | None = None
        self._runs: HandlerRuns | None = None

    def attach(self, channel: Channel) -> None:
        """Give the worker its way to the host; called once, before any frame arrives."""
        self._channel = channel

    def on_frame(self, frame: ToWorker) -> None:
        """React to a frame of the host. One that is out of place ends the worker."""
        match frame:
            case Ping():
                self._to_host().send(Pong(frame.number))
            case Assign() if not self._assigned:
                self._assigned = True
                self.spawn(self._become(frame))
            case Handle() if self._runs is not None:
                self._runs.start(frame)
            case Cancel() if self._runs is not None:
                self._runs.cancel(frame.id)
            case Committed() if self._commits is not None:
                try:
                    self._commits.committed(frame.seq, ok=frame.ok)
                except ValueError as exc:
                    self._die(str(exc))
            case Snapshot() if self._commits is not None:
                self._commits.want_snapshot(full=frame.full)
            case Stop():
                self._surroundings.exit(EXIT_OK)
            case _:
                self._die(f"{type(frame).__name__} out of place")

    def spawn(self, work: Awaitable[None]) -> None:
        """Run a task of the runtime; its failure ends the worker."""
        if not isinstance(work, Coroutine):
            raise TypeError("spawn takes a coroutine")
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._die(f"{type(error).__name__}: {error}")

    def _to_host(self) -> Channel:
        if self._channel is None:
            raise RuntimeError("the worker has no channel yet")
        return self._channel

    def _die(self, reason: str) -> None:
        log.error("worker_ended: %s", reason)
        self._surroundings.exit(EXIT_BROKEN)

    def _freed(self) -> None:
        if self._commits is not None:
            self._commits.freed()

    async def _become(self, assign: Assign) -> None:
        isolation = self._surroundings.isolate(assign.limits)
        try:
            async with asyncio.timeout(assign.limits.setup_seconds) as deadline:
                await self._make(assign)
        except Exception as exc:
            await self._give_up(exc, assign, expired=deadline.expired())
            return
        self._to_host().send(Ready(list(isolation.guards), dict(isolation.missing)))

    async def _make(self, assign: Assign) -> None:
        identity = Identity(
            assign.namespace, assign.pool, assign.tenant_id, assign.project_id, assign.instance_id
        )
        config = msgspec.json.decode(assign.config, type=dict[str, Any]) if assign.config else {}
        context = InstanceContext(identity, config, self._surroundings.directory, self._gate)
        self._stage = CONSTRUCTING
        agent = self._surroundings.make_agent()
        self._begin("the agent's setup()")
        await agent.setup(context)
        self._begin(RESTORING)
        agent.restore(dict(assign.parts))
        terms = Terms(assign.respond_durably, assign.limits.state_bytes)
        commits = Commits(agent, self._to_host(), terms, assign.parts, lambda: self._gate.held, self.spawn)
        runs = HandlerRuns(agent, context, self._to_host(), commits, assign.limits.answer_bytes, self._die)
        commits.requests = runs
        self._commits, self._runs = commits, runs

    def _begin(self, stage: str) -> None:
        self._stage = stage
        self._to_host().send(Making(stage))

    async def _give_up(self, error: Exception, assign: Assign, *, expired: bool) -> None:
        log.error("agent_setup_failed", exc_info=error)
        code: str = AgentCreationFailed.code
        if expired:
            code = AgentCreationTimeout.code
            message = f"The agent was not ready within {assign.limits.setup_seconds:g} s: {self._stage} ran."
        else:
            message = cut(f"In {self._stage or 'its config'}: {type(error).__name__}: {error}")
            if isinstance(error, MemoryError):
                code = MemoryExceeded.code
            elif self._stage == RESTORING and assign.parts:
                code = RestoreFailed.code
        self._to_host().send(SetupFailed(code, message))
        await asyncio.sleep(0)
        self._surroundings.exit(EXIT_SETUP_FAILED)
