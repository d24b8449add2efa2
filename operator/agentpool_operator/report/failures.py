# SPDX-License-Identifier: Apache-2.0
"""Failing instances, as hosts report them: a condition of their pool, words for Events, and a count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from agentpool_core.lifecycle import State
from agentpool_operator.plan.views import HeldView, HostView, RecoveryView
from agentpool_operator.report.conditions import Condition

REMEMBERED = 10_000
SHOWN = 3
"""Instances that a condition names."""
_DOWN = frozenset({State.CREATED, State.INITIALIZING, State.ERROR})


def is_down(state: State, recovery: RecoveryView | None) -> bool:
    """Whether an instance that failed is not back yet."""
    return recovery is not None and state in _DOWN


def words(recovery: RecoveryView) -> str:
    """The last failure, for people."""
    return f"{recovery.cause}: {recovery.message} Failures lately: {recovery.failures}."


def some_of(ids: Sequence[str]) -> str:
    """A few of them, for people."""
    return ", ".join(sorted(ids)[:SHOWN]) + (" .." if len(ids) > SHOWN else "")


def failing(hosts: Iterable[HostView]) -> Condition:
    """The pool's condition InstancesFailing."""
    down = [one for host in hosts for one in host.instances.values() if is_down(one.state, one.recovery)]
    left = sum(1 for one in down if one.recovery is not None and one.recovery.escalated)
    if not down:
        return Condition("InstancesFailing", False, "NoneFails")
    message = f"{len(down)} instances failed and are not back: {some_of([one.id for one in down])}."
    if left:
        message += f" {left} of them are left alone; mend the cause, then resume them."
    return Condition("InstancesFailing", True, "Escalated" if left else "Recovering", message)


def escalated(hosts: Iterable[HostView]) -> list[HeldView]:
    """Instances that are left alone until somebody resumes them."""
    found = [one for host in hosts for one in host.instances.values() if is_down(one.state, one.recovery)]
    return [one for one in found if one.recovery is not None and one.recovery.escalated]


class Failures:
    """Counts every failure once, however often and by whichever host it is reported.

    Args:
        observe: told of a new failure: its strategy and its cause.
    """

    def __init__(self, observe: Callable[[str, str], None]) -> None:
        self._observe = observe
        self._told: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def seen(self, held: HeldView) -> None:
        """A host reported an instance."""
        recovery = held.recovery
        if recovery is None:
            self._told.pop(held.id, None)
            return
        mark = (recovery.failed_at, recovery.strategy)
        if self._told.get(held.id) == mark:
            return
        self._told[held.id] = mark
        self._told.move_to_end(held.id)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._observe(recovery.strategy, recovery.cause)
