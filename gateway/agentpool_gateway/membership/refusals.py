# SPDX-License-Identifier: Apache-2.0
"""Hosts and instances that have just refused a request for their load: the next ones cost them nothing.

To refuse costs a host nearly what a light request does, and at several times the capacity that is most of
what it does. Within HOLD_SECONDS few requests end, and who waits in an instance's line has their permits.
"""

from __future__ import annotations

from agentpool_core.errors import AgentPoolError, ConcurrencyExceeded, HostOverloaded

HOLD_SECONDS = 0.02
MOST = 10_000


class Refusals:
    """What was refused a moment ago, by host or instance; times are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, AgentPoolError]] = {}

    def note(self, instance_id: str, host_id: str, failure: AgentPoolError, now: float, lined: bool) -> None:
        """A host refused a request of an instance; `lined`: requests wait for the instance's permits."""
        if isinstance(failure, HostOverloaded):
            key = host_id
        elif isinstance(failure, ConcurrencyExceeded) and lined:
            key = instance_id
        else:
            return
        if len(self._held) >= MOST:
            self._held = {one: held for one, held in self._held.items() if held[0] > now}
        if len(self._held) < MOST:
            self._held[key] = (now + HOLD_SECONDS, failure)

    def check(self, instance_id: str, host_id: str, now: float) -> None:
        """Raise what another request of the instance, or of its host, was refused with a moment ago."""
        if not self._held:
            return
        for key in (host_id, instance_id):
            held = self._held.get(key)
            if held is None:
                continue
            if now < held[0]:
                failure = held[1]
                raise type(failure)(
                    failure.message,
                    retry_after_seconds=failure.retry_after_seconds,
                    details=failure.details,
                )
            del self._held[key]
