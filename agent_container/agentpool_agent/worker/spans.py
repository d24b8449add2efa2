# SPDX-License-Identifier: Apache-2.0
"""The spans of one request, noted in the worker and sent with its answer.

A worker has neither a network nor a thread to export with, so it writes down names and times, bounded in
number and size; its host makes spans of them. Times are those of CLOCK_MONOTONIC, which both processes share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from agentpool_agent.authoring import SpanValue
from agentpool_agent.wire.frames import SpanRecord

HANDLE = "worker.handle"
NAME_CHARS = 64
MAX_ATTRIBUTES = 16
VALUE_CHARS = 256

_inside: ContextVar[int] = ContextVar("span", default=0)
"""Number of the span that the running code is in; each task has its own."""


@dataclass(slots=True)
class _Noted:
    name: str
    parent: int
    began: float
    ended: float = 0.0
    error: str = ""
    attributes: dict[str, SpanValue] = field(default_factory=dict)


class SpanLog:
    """The spans of a request; the first one is the handler's own.

    Args:
        limit: most spans; further ones are counted alone.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._noted = [_Noted(HANDLE, -1, clock())]
        self._dropped = 0
        self._closed = False

    def open(self, name: str, attributes: Mapping[str, SpanValue]) -> OpenSpan:
        """A span for the time of a block."""
        return OpenSpan(self, name, attributes)

    def begin(self, name: str, attributes: Mapping[str, SpanValue]) -> int:
        """A span begins, in the one that the running code is in; its number, -1 when there are too many."""
        if self._closed or len(self._noted) >= self._limit:
            self._dropped += 1
            return -1
        self._noted.append(_Noted(name[:NAME_CHARS] or "span", _inside.get(), self._clock()))
        number = len(self._noted) - 1
        self.note(number, attributes)
        return number

    def note(self, number: int, attributes: Mapping[str, SpanValue]) -> None:
        """Say more of a span. What is no text, number or truth value, or one too many, is left out."""
        kept = self._noted[number].attributes
        for name, value in attributes.items():
            if len(kept) >= MAX_ATTRIBUTES and name not in kept:
                return
            if isinstance(value, str):
                kept[name[:NAME_CHARS]] = value[:VALUE_CHARS]
            elif isinstance(value, bool | int | float) and abs(value) < 2**63:
                kept[name[:NAME_CHARS]] = value

    def end(self, number: int, error: str) -> None:
        """A span is over."""
        noted = self._noted[number]
        noted.ended, noted.error = noted.ended or self._clock(), error

    def closed(self, error: str = "") -> list[SpanRecord]:
        """All spans; those that are open end now, as the request does. Nothing is noted after it."""
        self._closed = True
        now = self._clock()
        if self._dropped:
            self._noted[0].attributes["agentpool.spans_dropped"] = self._dropped
        self._noted[0].error = error
        return [
            SpanRecord(one.name, one.parent, one.began, one.ended or now, one.error, one.attributes)
            for one in self._noted
        ]


class OpenSpan:
    """See `authoring.Span`."""

    def __init__(self, log: SpanLog | None, name: str = "", attributes: Mapping[str, SpanValue] = {}) -> None:
        self._log = log
        self._name = name
        self._attributes = attributes
        self._number = -1
        self._outside = 0

    def set(self, **attributes: SpanValue) -> None:
        """See Span."""
        if self._log is not None and self._number >= 0:
            self._log.note(self._number, attributes)

    def __enter__(self) -> OpenSpan:
        if self._log is not None:
            self._number = self._log.begin(self._name, self._attributes)
            if self._number >= 0:
                self._outside = _inside.get()
                _inside.set(self._number)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._log is not None and self._number >= 0:
            # Not by a token: an agent may leave the block in another task than it entered it in.
            _inside.set(self._outside)
            self._log.end(self._number, kind.__name__ if kind is not None else "")

    async def __aenter__(self) -> OpenSpan:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self.__exit__(kind, error, trace)


NOT_TRACED = OpenSpan(None)
"""Notes nothing; for requests whose trace nobody keeps."""
