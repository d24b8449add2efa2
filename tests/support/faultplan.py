# SPDX-License-Identifier: Apache-2.0
"""What a fault proxy is to do with which request: pure, decided by the request's kind and number alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

WRITES = frozenset({"create", "update", "patch", "delete"})
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACED = 2
"""Parts of a path in front of a namespaced kind: `namespaces`, and the namespace."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API server.

    Attributes:
        number: among all requests of the proxy, from 1.
        write: number among the writes other than those of Leases; 0: it is none of them.
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    agent: str = ""
    number: int = 0
    write: int = 0

    @property
    def writes(self) -> bool:
        """Whether it changes anything, Leases included."""
        return self.verb in WRITES

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {what} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing out of the ordinary."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Forward it after some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Break the connection without an answer.

    Attributes:
        committed: the server carries the request out first.
        then: awaited before the connection breaks, for example to kill who asked.
    """

    committed: bool = False
    then: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with an error in the server's place.

    Attributes:
        committed: the server carries the request out first.
        retry_after: seconds, for the header of that name.
    """

    status: int
    reason: str
    committed: bool = False
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Older:
    """Answer a list as the server answered it the first time it was kept (see `FaultProxy.keep_lists`)."""


Action = Pass | Delay | Drop | Answer | Older

ERRORS: Mapping[str, Answer] = {
    "409": Answer(409, "Conflict"),
    "429": Answer(429, "TooManyRequests", retry_after=1),
    "500": Answer(500, "InternalError"),
    "504 after commit": Answer(504, "Timeout", committed=True),
}
"""The errors that an API server gives sooner or later."""


@dataclass(slots=True)
class Rule:
    """An action for some requests.

    Attributes:
        wanted: whether the rule is about a request.
        first, count: which of those it meets, numbered from 1; count None: all from `first` on.
        applied: how often it acted.
    """

    wanted: Callable[[Call], bool]
    action: Action
    first: int = 1
    count: int | None = 1
    met: int = field(default=0, init=False)
    applied: int = field(default=0, init=False)

    def take(self, call: Call) -> Action | None:
        """The action if it is this request's turn."""
        if not self.wanted(call):
            return None
        self.met += 1
        late = self.count is not None and self.met >= self.first + self.count
        if self.met < self.first or late:
            return None
        self.applied += 1
        return self.action


@dataclass(slots=True)
class EventRule:
    """What becomes of some events of watches: `copies` 0 drops one, 2 doubles it.

    Attributes:
        wanted: by the resource and the event as it is.
        count: of how many events; None: all.
    """

    wanted: Callable[[str, Mapping[str, Any]], bool]
    copies: int
    count: int | None = 1
    applied: int = field(default=0, init=False)

    def take(self, resource: str, event: Mapping[str, Any]) -> int | None:
        """How many copies of this event are to be sent, if the rule says."""
        if (self.count is not None and self.applied >= self.count) or not self.wanted(resource, event):
            return None
        self.applied += 1
        return self.copies


def read_call(method: str, path: str, query: Mapping[str, str], agent: str) -> Call:
    """A request without its numbers."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if len(rest) > _NAMESPACED and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "", "")[:3]
    verb = _VERBS.get(method, method.lower())
    if verb == "get" and resource and not name:
        verb = "watch" if query.get("watch") in ("true", "1", "True") else "list"
    return Call(verb, resource, namespace, name, subresource, agent)


def counts(call: Call) -> bool:
    """Whether a write is one of those that are counted: the renewal of a Lease depends on the clock."""
    return call.writes and call.resource != "leases"
