# SPDX-License-Identifier: Apache-2.0
"""What was refused a moment ago is refused without its host, and not for longer."""

from __future__ import annotations

import pytest

from agentpool_core.errors import (
    AgentPoolError,
    CircuitOpen,
    ConcurrencyExceeded,
    HostOverloaded,
    PoolExhausted,
)
from agentpool_gateway.membership.refusals import HOLD_SECONDS, MOST, Refusals

NOW = 50.0
BUSY = ConcurrencyExceeded("ten of ten", retry_after_seconds=1.0)
LOADED = HostOverloaded("no cores", retry_after_seconds=2.0)


@pytest.mark.parametrize(
    ("failure", "lined", "instance", "host", "refused"),
    [
        pytest.param(BUSY, True, "i", "h", True, id="the instance whose permits are taken"),
        pytest.param(BUSY, True, "other", "h", False, id="another instance of that host"),
        pytest.param(BUSY, False, "i", "h", False, id="nobody waits in line for its next free permit"),
        pytest.param(LOADED, False, "other", "h", True, id="every instance of a host without cores"),
        pytest.param(LOADED, False, "i", "elsewhere", False, id="the instance on another host"),
        pytest.param(CircuitOpen("broken"), True, "i", "h", False, id="what is no load"),
        pytest.param(PoolExhausted("full"), True, "i", "h", False, id="a full pool"),
    ],
)
def test_who_is_refused_next(
    failure: AgentPoolError, lined: bool, instance: str, host: str, refused: bool
) -> None:
    refusals = Refusals()
    refusals.note("i", "h", failure, NOW, lined)
    if not refused:
        refusals.check(instance, host, NOW)
        return
    with pytest.raises(type(failure)) as caught:
        refusals.check(instance, host, NOW + HOLD_SECONDS / 2)
    assert caught.value is not failure
    assert caught.value.message == failure.message
    assert caught.value.retry_after_seconds == failure.retry_after_seconds
    refusals.check(instance, host, NOW + HOLD_SECONDS)


def test_what_is_kept_is_bounded_and_old_ones_make_room() -> None:
    refusals = Refusals()
    for number in range(MOST + 5):
        refusals.note(f"i{number}", "h", BUSY, NOW, True)
    refusals.check(f"i{MOST + 1}", "h", NOW)
    refusals.note("late", "h", BUSY, NOW + 1, True)
    with pytest.raises(ConcurrencyExceeded):
        refusals.check("late", "h", NOW + 1)
