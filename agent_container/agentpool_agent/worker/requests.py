# SPDX-License-Identifier: Apache-2.0
"""Runs the handlers of one instance, each in a task with a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgspec

from agentpool_agent.authoring import Agent, Answer, Chunk, Event, Rejected, Request
from agentpool_agent.wire.frames import Failed, Handle, Part, SpanRecord
from agentpool_agent.worker.channel import Channel
from agentpool_agent.worker.commits import Commits
from agentpool_agent.worker.context import InstanceContext, RequestContext
from agentpool_agent.worker.output import serving
from agentpool_agent.worker.spans import SpanLog
from agentpool_core.errors import (
    AgentFailure,
    AgentPoolError,
    AnswerTooLarge,
    DeadlineExceeded,
    InputRejected,
    InstanceRolledBack,
    MemoryExceeded,
)

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""What a cancelled handler may take to clean up. One that takes longer cannot be trusted to leave a restored
state alone: the worker ends, and the instance comes back from its last commit."""

MAX_HELD = 1024
"""Requests that wait until a failed one is known to have left no change, or is taken back; the host's permits
keep the number far below."""

MESSAGE_CHARS = 2000
"""A message of the agent's own exception is cut to this length."""


@dataclass(slots=True)
class _Running:
    frame: Handle
    task: asyncio.Task[None]
    stuck: asyncio.TimerHandle
    begun: bool = False
    """Whether its task had its first turn. One that is cancelled before never runs, and tells nobody."""
    unchanged: bool = False
    answered: bool = False
    stopped: bool = False
    """By the caller or a rollback: whatever the handler still yields is not heard."""
    sent_bytes: int = 0
    spans: SpanLog | None = None
    """Its steps, when its trace is kept."""

    def steps(self, error: str = "") -> list[SpanRecord]:
        """Its steps up to now, at its end."""
        return [] if self.spans is None else self.spans.closed(error)


class HandlerRuns:
    """The requests of one instance that run now.

    Args:
        die: ends the process with a reason, when a handler cannot be stopped.
    """

    def __init__(
        self,
        agent: Agent,
        context: InstanceContext,
        channel: Channel,
        commits: Commits,
        answer_bytes: int,
        die: Callable[[str], None],
    ) -> None:
        self._agent = agent
        self._context = context
        self._channel = channel
        self._commits = commits
        self._answer_bytes = answer_bytes
        self._die = die
        self._running: dict[int, _Running] = {}
        self._held: list[Handle] | None = None
        self._stopping_all = False

    def start(self, frame: Handle) -> None:
        """Begin to serve a request, or hold it while the state is in doubt."""
        if self._held is not None:
            if len(self._held) < MAX_HELD:
                self._held.append(frame)
            else:
                self._channel.send(Failed(frame.id, InstanceRolledBack.code, "Too many requests wait."))
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(frame))
        stuck = loop.call_later(
            frame.deadline_seconds + STOP_SECONDS, self._die, "a handler ignored its cancellation"
        )
        spans = SpanLog(frame.spans) if frame.spans else None
        self._running[frame.id] = _Running(frame, task, stuck, spans=spans)

    def cancel(self, request: int) -> None:
        """The caller is gone. An answer that is there already is committed all the same."""
        if self._held is not None:
            self._held = [frame for frame in self._held if frame.id != request]
        running = self._running.get(request)
        if running is None or running.answered or running.stopped:
            return
        if not running.begun:
            self._forget(running)
            return
        running.stopped = True
        running.task.cancel()
        if not running.unchanged:
            # What came to run beside it would be taken back with it.
            self.hold()
        running.stuck.cancel()
        running.stuck = asyncio.get_running_loop().call_later(
            STOP_SECONDS, self._die, "a handler ignored its cancellation"
        )

    def others_may_change(self) -> bool:
        """See commits.Requests."""
        return any(not running.unchanged and not running.answered for running in self._running.values())

    def hold(self) -> None:
        """See commits.Requests."""
        if self._held is None:
            self._held = []

    async def stop_all(self) -> list[int]:
        """See commits.Requests."""
        self._stopping_all = True
        stopped: list[int] = []
        early: list[Handle] = []
        for request, running in list(self._running.items()):
            if not running.begun:
                self._forget(running)
                early.append(running.frame)
                continue
            if not running.answered and not running.stopped:
                stopped.append(request)
            running.stopped = True
            running.task.cancel()
        self._held = [*early, *(self._held or [])]
        tasks = [running.task for running in self._running.values()]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            if pending:
                self._die("a handler ignored its cancellation")
        self._stopping_all = False
        return stopped

    def resume(self) -> None:
        """See commits.Requests."""
        if any(running.stopped and not running.unchanged for running in self._running.values()):
            return
        held, self._held = self._held or [], None
        for frame in held:
            self.start(frame)

    def _forget(self, running: _Running) -> None:
        """A request of which nothing ran."""
        running.task.cancel()
        running.stuck.cancel()
        del self._running[running.frame.id]

    async def _serve(self, frame: Handle) -> None:
        running = self._running[frame.id]
        running.begun = True
        serving.set(frame.id)
        failure: AgentPoolError | None = None
        cancelled = False
        try:
            async with asyncio.timeout(frame.deadline_seconds) as deadline:
                failure = await self._outcome(running)
        except TimeoutError:
            if not deadline.expired():
                raise
            failure = DeadlineExceeded(f"The handler took longer than {frame.deadline_seconds:g} s.")
        except asyncio.CancelledError:
            # Only `cancel` and `stop_all` cancel this task, and it ends here either way.
            cancelled = True
        finally:
            running.stuck.cancel()
            del self._running[frame.id]
        self._report(running, failure, cancelled=cancelled)

    def _report(self, running: _Running, failure: AgentPoolError | None, *, cancelled: bool) -> None:
        if self._stopping_all:
            return
        if cancelled or running.stopped:
            self._commits.fail(None, unchanged=running.unchanged)
        elif failure is not None:
            request = running.frame.id
            if running.answered and not self._commits.withdraw(request):
                log.warning("handler_failed_after_answer: %s", failure.message)
                return
            failed = Failed(request, failure.code, failure.message, running.steps(failure.code))
            self._commits.fail(failed, unchanged=running.unchanged)

    async def _outcome(self, running: _Running) -> AgentPoolError | None:
        try:
            await self._drive(running)
        except Rejected as exc:
            return InputRejected(cut(str(exc)))
        except AnswerTooLarge as exc:
            return exc
        except MemoryError as exc:
            log.error("agent_out_of_memory", exc_info=exc)
            return MemoryExceeded("The agent needed more memory than its quota allows.")
        except Exception as exc:
            # A handler that turns its cancellation into an error of its own has still been cancelled.
            if running.stopped:
                raise asyncio.CancelledError from exc
            log.error("agent_raised", exc_info=exc)
            return AgentFailure(cut(f"{type(exc).__name__}: {exc}"))
        return None

    async def _drive(self, running: _Running) -> None:
        frame = running.frame

        def unchanged() -> None:
            # Once stopped it is in doubt, and others wait until the state was looked at.
            running.unchanged = running.unchanged or not running.stopped

        request = Request(str(frame.id), frame.body, frame.deadline_seconds)
        events = self._agent.handle(request, RequestContext(self._context, unchanged, running.spans))
        if not hasattr(events, "__anext__"):
            close = getattr(events, "close", None)
            if close is not None:
                close()
            raise TypeError("handle() is not an async generator: it has to yield its events")
        try:
            async for event in events:
                if running.stopped:
                    raise asyncio.CancelledError
                await self._take(running, event)
        finally:
            await _close(events)
        if not running.answered:
            raise TypeError("handle() ended without an Answer")

    async def _take(self, running: _Running, event: Event) -> None:
        request = running.frame.id
        if running.answered:
            raise TypeError("handle() went on after its Answer, which has to be the last event")
        match event:
            case Answer():
                output = self._encoded(running, event.output)
                running.answered = True
                self._commits.finish(request, output, running.steps(), unchanged=running.unchanged)
            case Chunk():
                self._channel.send(Part(request, self._encoded(running, event.data)))
                await self._channel.drained()
            case _:
                raise TypeError(f"handle() yielded {type(event).__name__}; events are Chunk and Answer")

    def _encoded(self, running: _Running, value: object) -> bytes:
        encoded = msgspec.json.encode(value)
        running.sent_bytes += len(encoded)
        if running.sent_bytes > self._answer_bytes:
            raise AnswerTooLarge(
                f"The answer is over {self._answer_bytes} bytes: {running.sent_bytes} when it was stopped."
            )
        return encoded


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


def cut(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"
