# SPDX-License-Identifier: Apache-2.0
"""What an agent prints or logs, on its way to the host's log, with a bound on its rate."""

from __future__ import annotations

import io
import logging
import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar

from agentpool_agent.wire.frames import Log
from agentpool_agent.worker.channel import Channel

LINES_PER_SECOND = 50.0
BURST_LINES = 200.0
LINE_CHARS = 4096

serving: ContextVar[int] = ContextVar("serving", default=0)
"""The request that the running code is of, in all its tasks and threads; 0: none."""


class LineBudget:
    """A token bucket of log lines. Pure: the time in seconds is an argument."""

    def __init__(self, now: float) -> None:
        self._tokens = BURST_LINES
        self._at = now
        self._suppressed = 0

    def take(self, now: float) -> tuple[bool, int]:
        """Whether a line may go out now, and how many were suppressed since the last one that did."""
        self._tokens = min(BURST_LINES, self._tokens + (now - self._at) * LINES_PER_SECOND)
        self._at = now
        if self._tokens < 1:
            self._suppressed += 1
            return False, 0
        self._tokens -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return True, suppressed


class HostLog(logging.Handler):
    """Sends log records and printed lines to the host."""

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._channel = channel
        self._clock = clock
        self._budget = LineBudget(clock())

    def emit(self, record: logging.LogRecord) -> None:
        """Part of logging.Handler. Lines are dropped, and counted, when there are too many of them."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        self.line(record.levelno, text)

    def line(self, level: int, text: str) -> None:
        """Send one line."""
        allowed, suppressed = self._budget.take(self._clock())
        if not allowed or self._channel.congested:
            return
        if suppressed:
            self._channel.send(Log(logging.WARNING, f"{suppressed} lines of this instance were suppressed"))
        self._channel.send(Log(level, text[:LINE_CHARS], serving.get()))


class PrintedLines(io.TextIOBase):
    """Stands in for stdout and stderr: each complete line becomes a log line."""

    def __init__(self, log: HostLog, level: int) -> None:
        self._log = log
        self._level = level
        self._rest = ""

    def writable(self) -> bool:
        """Part of TextIOBase."""
        return True

    def write(self, text: str) -> int:
        """Part of TextIOBase."""
        *lines, rest = (self._rest + text).split("\n")
        if len(rest) > LINE_CHARS:
            lines.append(rest)
            rest = ""
        self._rest = rest
        for line in lines:
            if line:
                self._log.line(self._level, line)
        return len(text)


def redirect(channel: Channel) -> None:
    """Send everything that this process logs or prints to the host."""
    handler = HostLog(channel)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    sys.stdout = PrintedLines(handler, logging.INFO)
    sys.stderr = PrintedLines(handler, logging.WARNING)
