# SPDX-License-Identifier: Apache-2.0
"""A copy of one kind's objects, kept by list and watch. Pure: answers go in, what to do next comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Any, Generic, TypeVar

Object = Mapping[str, Any]
View = TypeVar("View")
EXPIRED = 410


class Outcome(Enum):
    """What an event of a watch means for the copy."""

    CHANGED = auto()
    UNCHANGED = auto()
    RELIST = auto()
    """The watch cannot go on from the version that is known: list again."""
    BROKEN = auto()
    """The server ended the watch with an error: watch again from the same version, a little later."""


class Mirror(Generic[View]):
    """The objects as last told, each as the view that its reader needs.

    Args:
        view: makes the view of an object; raises ValueError or KeyError for one that cannot be read: its last
            readable view stays, if there is one.
        gone: told of each view whose object was deleted, or was missing in a list.
    """

    def __init__(self, view: Callable[[Object], View], gone: Callable[[View], None]) -> None:
        self._view = view
        self._gone = gone
        self._views: dict[tuple[str, str], tuple[str, View]] = {}
        self.version = ""
        """resourceVersion to watch from; empty: list first."""
        self.synced = False
        """Whether a list was taken on; stays true."""

    @property
    def views(self) -> Iterable[View]:
        """All views."""
        return (view for _, view in self._views.values())

    def replace(self, items: Iterable[Object], version: str) -> None:
        """Take on a complete list."""
        before, self._views = self._views, {}
        for item in items:
            self._put(item, before.get(_key(item)))
        present = {uid for uid, _ in self._views.values()}
        for uid, view in before.values():
            if uid not in present:
                self._gone(view)
        self.version, self.synced = version, True

    def apply(self, event: Object) -> Outcome:
        """Take on one event of a watch."""
        kind, body = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            return self._failed(body)
        metadata = body.get("metadata") or {}
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            return Outcome.BROKEN
        self.version = str(metadata.get("resourceVersion") or self.version)
        if kind == "BOOKMARK":
            return Outcome.UNCHANGED
        if kind == "DELETED":
            return self._drop(_key(body), str(metadata.get("uid", "")))
        replaced = self._views.get(_key(body))
        if replaced is not None and replaced[0] != metadata.get("uid"):
            # Deleted and made again under the same name: the first deletion may never be told.
            self._drop(_key(body), replaced[0])
        self._put(body, self._views.get(_key(body)))
        return Outcome.CHANGED

    def _failed(self, status: Object) -> Outcome:
        if status.get("code") == EXPIRED or status.get("reason") in ("Expired", "Gone"):
            self.version = ""
            return Outcome.RELIST
        return Outcome.BROKEN

    def _put(self, body: Object, known: tuple[str, View] | None) -> None:
        uid = str((body.get("metadata") or {}).get("uid", ""))
        try:
            self._views[_key(body)] = (uid, self._view(body))
        except (KeyError, ValueError):
            if known is not None and known[0] == uid:
                self._views[_key(body)] = known

    def _drop(self, key: tuple[str, str], uid: str) -> Outcome:
        known = self._views.get(key)
        if known is None or known[0] != uid:
            return Outcome.UNCHANGED
        del self._views[key]
        self._gone(known[1])
        return Outcome.CHANGED


def _key(body: Object) -> tuple[str, str]:
    metadata = body.get("metadata") or {}
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))
