# SPDX-License-Identifier: Apache-2.0
"""Watch: everything once, then numbered deltas.

Changes are coalesced by instance, so a slow watcher costs at most one id per instance and never a queue
of events. What changed is looked up when it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT
from agentpool_agent.host.views import entry_view, host_view
from agentpool_core.errors import Unavailable
from agentpool_core.lifecycle import State
from agentpool_proto.v1.host_pb2 import FeatureFlags, HostStatus, WatchDelta, WatchEvent, WatchSnapshot

WINDOW_SECONDS = 0.05
"""Changes within this time make one delta."""
LOAD_SECONDS = 1.0
"""Load alone is told at most this often."""
MAX_PENDING = 20_000
"""Ids that wait for one watcher; over that it has to start anew."""
MAX_WATCHERS = 64


class _Watcher:
    def __init__(self) -> None:
        self.pending: set[str] = set()
        self.host_changed = False
        self.flags_version = 0
        self.wake = asyncio.Event()


class WatchHub:
    """Collects changes and hands them to every watcher."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._watchers: set[_Watcher] = set()
        self._loaded: set[str] = set()
        self._load_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def instance_changed(self, instance_id: str, urgent: bool) -> None:
        """table.Table.changed: an instance looks different; not urgent: only its load does."""
        if not self._watchers:
            return
        if urgent:
            for watcher in self._watchers:
                watcher.pending.add(instance_id)
                watcher.host_changed = True
                watcher.wake.set()
            return
        self._loaded.add(instance_id)
        if self._load_timer is None:
            loop = asyncio.get_running_loop()
            self._load_timer = loop.call_later(LOAD_SECONDS, self._tell_load)

    def host_changed(self) -> None:
        """The host as a whole looks different."""
        for watcher in self._watchers:
            watcher.host_changed = True
            watcher.wake.set()

    def close(self) -> None:
        """End every watcher's stream after what it has not been told yet."""
        self._closed = True
        for watcher in self._watchers:
            watcher.wake.set()

    def _tell_load(self) -> None:
        self._load_timer = None
        for watcher in self._watchers:
            watcher.pending |= self._loaded
            watcher.host_changed = True
            watcher.wake.set()
        self._loaded.clear()

    async def events(self) -> AsyncIterator[WatchEvent]:
        """The events of one watcher, until it goes away."""
        if len(self._watchers) >= MAX_WATCHERS:
            raise Unavailable("Too many watchers.", retry_after_seconds=1.0)
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            sequence = 1
            snapshot = self._snapshot(watcher)
            yield WatchEvent(sequence=sequence, snapshot=snapshot, sent_at=self._host.wall())
            while True:
                # Ends with the call.
                await watcher.wake.wait()
                await asyncio.sleep(WINDOW_SECONDS)
                watcher.wake.clear()
                if len(watcher.pending) > MAX_PENDING:
                    raise Unavailable("The watcher is too slow.", retry_after_seconds=0.1)
                sequence += 1
                delta = self._delta(watcher)
                yield WatchEvent(sequence=sequence, delta=delta, sent_at=self._host.wall())
                if self._closed:
                    return
        finally:
            self._watchers.discard(watcher)

    def _snapshot(self, watcher: _Watcher) -> WatchSnapshot:
        host = self._host
        shared = host.store is not None and host.store.shared
        shown = RESIDENT | {State.ERROR} if shared else frozenset(State) - {State.TERMINATED}
        entries = [entry_view(host, entry) for entry in host.table if entry.state in shown]
        return WatchSnapshot(host=self._status(watcher), instances=entries)

    def _status(self, watcher: _Watcher) -> HostStatus:
        status, flags = host_view(self._host), self._host.flags
        if flags.version != watcher.flags_version:
            watcher.flags_version = flags.version
            status.flags.CopyFrom(FeatureFlags(version=flags.version, document=flags.document))
        return status

    def _delta(self, watcher: _Watcher) -> WatchDelta:
        pending, watcher.pending = watcher.pending, set()
        delta = WatchDelta()
        if watcher.host_changed:
            delta.host.CopyFrom(self._status(watcher))
            watcher.host_changed = False
        for instance_id in pending:
            entry = self._host.table.get(instance_id)
            if entry is None:
                delta.gone.append(instance_id)
            else:
                delta.changed.append(entry_view(self._host, entry))
        return delta
