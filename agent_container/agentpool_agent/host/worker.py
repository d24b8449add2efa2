# SPDX-License-Identifier: Apache-2.0
"""The host's end of one worker's socket.

A worker runs a tenant's code and is not trusted: its bytes and frames per second, the length of a frame and
what it leaves unread are bounded, and whatever is over a bound, or is not a frame at all, ends the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.wire import frames
from agentpool_agent.wire.assembly import FrameBuffer
from agentpool_core.recovery import Cause

log = structlog.get_logger(__name__)

PARTING_SECONDS = 0.5
"""How long the zygote may take to say how a worker ended whose socket is closed."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one worker may send in a second, and leave unread, before it is ended."""

    bytes_per_second: int = 256 * 1024 * 1024
    frames_per_second: int = 20_000
    log_lines_per_second: int = 100
    unread_bytes: int = 128 * 1024 * 1024


class FrameSink(Protocol):
    """Who gets what a worker sends."""

    @property
    def exchanges(self) -> Mapping[int, Exchange]:
        """Requests under way, by their number in frames."""

    def frame_received(self, frame: frames.ToHost) -> None:
        """One frame, Log and Pong excepted."""

    def worker_lost(self, reason: str, cause: Cause) -> None:
        """The worker has ended or was ended; called once, nothing follows."""


class WorkerChannel(asyncio.Protocol):
    """Reads frames, writes frames, and ends the worker at the first sign of abuse.

    Args:
        number: the zygote's number of the worker.
        kill: asks the zygote to end the worker.
        clock: monotonic seconds.
    """

    def __init__(
        self, number: int, kill: Callable[[int], None], clock: Callable[[], float], budget: Budget
    ) -> None:
        self.number = number
        self.sink: FrameSink | None = None
        self.instance_id = ""
        self.lost = False
        self.pings = 0
        self.pongs = 0
        self.answered_at = 0.0
        self._kill = kill
        self._clock = clock
        self._budget = budget
        self._transport: asyncio.Transport | None = None
        self._buffer = FrameBuffer()
        self._asked_at = 0.0
        self._parting: asyncio.TimerHandle | None = None
        self._window = 0.0
        self._bytes = 0
        self._frames = 0
        self._lines = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is ours."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a worker's socket must be a stream")
        self._transport = transport
        # A slow worker is ended by `unread_bytes`; there is no writer to pause.
        transport.set_write_buffer_limits(high=self._budget.unread_bytes)

    def data_received(self, data: bytes) -> None:
        """asyncio: some bytes came."""
        if self.lost:
            return
        try:
            self._count(len(data))
            for body in self._buffer.feed(data):
                if self.lost:
                    return
                self._dispatch(frames.to_host_decoder.decode(body))
        except (msgspec.DecodeError, ValueError) as exc:
            self.end(f"it sent what is no frame: {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the worker closed its end, or died."""
        if self.lost or self._parting is not None:
            return
        self._kill(self.number)
        self._transport = None
        # The zygote's word on how it ended follows, and knows more.
        loop = asyncio.get_running_loop()
        self._parting = loop.call_later(PARTING_SECONDS, self.end, "its process ended")

    def send(self, frame: frames.ToWorker) -> None:
        """Queue a frame; a worker that does not read is ended."""
        transport = self._transport
        if self.lost or transport is None:
            return
        transport.write(frames.pack(frame))
        if transport.get_write_buffer_size() > self._budget.unread_bytes:
            self.end("it does not read its socket")

    @property
    def asked(self) -> bool:
        """Whether a question is open."""
        return self.pings > self.pongs

    def excuse(self, seconds: float) -> None:
        """Let an open question be so much younger: the host itself was held up."""
        self._asked_at += seconds

    def ping(self, now: float) -> float:
        """Ask for a sign of life; returns for how long the last question has been open, in seconds."""
        if self.asked:
            return max(0.0, now - self._asked_at)
        self.pings += 1
        self._asked_at = now
        self.send(frames.Ping(self.pings))
        return 0.0

    def exited(self, status: int, reason: str) -> None:
        """The zygote says that the process is gone."""
        if reason and reason != "requested":
            cause = Cause.MEMORY_EXCEEDED if reason == "memory" else Cause.CRASH
            self.end(f"it was ended for its use of {reason}", cause)
        elif status < 0:
            self.end(f"its process was ended by signal {-status}")
        else:
            self.end(f"its process ended with status {status}")

    def end(self, reason: str, cause: Cause = Cause.CRASH) -> None:
        """End the worker; its sink is told once."""
        if self.lost:
            return
        self.lost = True
        if self._parting is not None:
            self._parting.cancel()
        self._kill(self.number)
        if self._transport is not None:
            self._transport.abort()
        self._buffer = FrameBuffer()
        if self.sink is not None:
            self.sink.worker_lost(reason, cause)

    def _count(self, size: int) -> None:
        now = self._clock()
        if now - self._window >= 1.0:
            self._window, self._bytes, self._frames, self._lines = now, 0, 0, 0
        self._bytes += size
        if self._bytes > self._budget.bytes_per_second:
            raise ValueError(f"more than {self._budget.bytes_per_second} bytes in a second")

    def _dispatch(self, frame: frames.ToHost) -> None:
        self._frames += 1
        if self._frames > self._budget.frames_per_second:
            raise ValueError(f"more than {self._budget.frames_per_second} frames in a second")
        if isinstance(frame, frames.Pong):
            if self.asked:
                self.answered_at = self._clock()
            self.pongs = frame.number if frame.number <= self.pings else self.pings
        elif isinstance(frame, frames.Log):
            self._log(frame)
        elif self.sink is None:
            raise ValueError("a frame before it was assigned")
        else:
            self.sink.frame_received(frame)

    def _log(self, frame: frames.Log) -> None:
        self._lines += 1
        if self._lines <= self._budget.log_lines_per_second:
            # A worker says which of its requests a line is of; whose trace that is, it is not asked.
            exchange = self.sink.exchanges.get(frame.request) if self.sink is not None else None
            traced = {"trace_id": exchange.trace_id} if exchange is not None and exchange.trace_id else {}
            log.log(
                max(10, min(frame.level, 50)),
                "agent_logged",
                message=frame.message[:4096],
                instance=self.instance_id,
                **traced,
            )
