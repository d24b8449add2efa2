# SPDX-License-Identifier: Apache-2.0
"""What a host does about failures: states, notes, and when it refuses to try again."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from agentpool_agent.host.breaking import enter, settle
from agentpool_agent.host.quota import BUCKET_BYTES
from agentpool_agent.host.recovery import AT_WORK_SECONDS
from agentpool_agent.host.table import Entry
from agentpool_agent.host.views import entry_view, record_view
from agentpool_agent.store import Claim, MemoryStore, Ownership
from agentpool_agent.wire import frames
from agentpool_core.errors import InstanceCrashed, InstanceFailed, MemoryExceeded, StoreUnavailable
from agentpool_core.lifecycle import PauseReason, State, Tier, Wish
from agentpool_core.names import Incarnation
from agentpool_core.recovery import Cause, Failure, History
from agentpool_core.resilience import BreakerState, CircuitBreaker
from support.residents import KEY, START, HostRig, host_rig

OTHER = Incarnation("another", "1")


class Shared(MemoryStore):
    """A store that other hosts see, too, which fails as told and counts notes."""

    def __init__(self) -> None:
        super().__init__("default", "support", clock=lambda: 1)
        self.notes: list[History] = []
        self.away = False

    @property
    def shared(self) -> bool:
        return True

    async def note(self, ownership: Ownership, failures: bytes, rate: bytes = b"") -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.notes.append(History.unpack(failures))
        await super().note(ownership, failures, rate)


@pytest.fixture
async def rig() -> HostRig:
    """A host with one READY instance."""
    return await host_rig()


@pytest.mark.parametrize("busy", [False, True], ids=["while idle", "at work"])
async def test_a_lost_worker_leads_to_error_and_is_noted_before_its_release(rig: HostRig, busy: bool) -> None:
    exchange = rig.request() if busy else None
    rig.worker.end("it crashed", Cause.CRASH)
    await rig.settle()
    record = await rig.store.get(KEY.instance_id)
    assert (rig.entry.state, rig.entry.reason) == (State.ERROR, "Crash")
    assert record is not None and record.owner is None
    assert [one.cause for one in History.unpack(record.failures).failures] == [Cause.CRASH]
    assert exchange is None or isinstance(exchange.error, InstanceCrashed)
    for view in (entry_view(rig.host, rig.entry), record_view(rig.host, record)):
        assert (view.state, view.reason, view.recovery.strategy) == ("ERROR", "Crash", "RESTART")


async def test_a_worker_over_its_memory_is_told_as_such(rig: HostRig) -> None:
    exchange = rig.request()
    rig.worker.exited(-9, "memory")
    await rig.settle()
    assert isinstance(exchange.error, MemoryExceeded)
    assert rig.entry.reason == "MemoryExceeded"


async def test_an_idle_instance_does_not_answer_for_its_zygote(rig: HostRig) -> None:
    rig.worker.end("the zygote ended", Cause.HOST_LOST)
    await rig.settle()
    assert (rig.entry.state, rig.entry.revive) == (State.PAUSED, True)
    assert rig.entry.history.failures == ()


async def test_a_busy_one_may_have_been_the_reason(rig: HostRig) -> None:
    rig.request()
    rig.worker.end("the zygote ended", Cause.HOST_LOST)
    assert (rig.entry.state, rig.entry.reason) == (State.ERROR, "HostLost")
    await rig.settle()


async def test_a_wish_is_fulfilled_although_the_worker_died(rig: HostRig) -> None:
    rig.request()
    rig.entry.wish = Wish.TERMINATE
    rig.worker.end("it crashed")
    await rig.settle()
    assert rig.wishes == [(State.ERROR, Wish.TERMINATE)]


async def test_a_request_without_memory_counts_and_the_instance_goes_on(rig: HostRig) -> None:
    moves: list[Tier] = []

    async def relocate(_entry: Entry, tier: Tier) -> None:
        moves.append(tier)

    async def migrate(_entry: Entry, _tier: Tier) -> bool:
        return True

    rig.grow(Tier.HOT)
    rig.host.migrate, rig.host.relocate = migrate, relocate
    for count in range(1, 4):
        exchange = rig.request()
        rig.resident.frame_received(frames.Failed(exchange.number, "MemoryExceeded", "too much"))
        assert isinstance(exchange.error, MemoryExceeded)
        rig.resident.leave(exchange)
        await rig.settle()
        assert (rig.entry.state, len(rig.entry.history.failures)) == (State.READY, count)
        assert moves == ([] if count < 3 else [Tier.HOT])


@pytest.mark.parametrize("moved", [True, False], ids=["there is room", "there is none"])
async def test_a_third_death_for_want_of_memory_moves_the_instance(rig: HostRig, moved: bool) -> None:
    asked: list[tuple[State, Tier]] = []

    async def migrate(entry: Entry, tier: Tier) -> bool:
        await rig.host.given_back(entry.instance_id)
        asked.append((entry.state, tier))
        return moved

    rig.host.migrate = migrate
    rig.grow(Tier.HOT)
    for ago in (120, 60):
        failure = Failure(START - ago, Cause.MEMORY_EXCEEDED, Tier.WARM)
        rig.entry.history = rig.entry.history.after(failure).calm()
    rig.worker.exited(-9, "memory")
    await rig.settle()
    assert asked == [(State.ERROR, Tier.HOT)]
    assert (rig.host.table.get(KEY.instance_id) is None) == moved


async def test_nothing_is_noted_of_short_requests_and_long_ones_are_until_they_end() -> None:
    store = Shared()
    rig = await host_rig(store=store)
    first = rig.request()
    await rig.recoveries.note_all()
    assert store.notes == []
    rig.now += AT_WORK_SECONDS + 0.1
    await rig.recoveries.note_all()
    await rig.recoveries.note_all()
    assert [note.work is not None for note in store.notes] == [True]
    rig.resident.leave(first)
    rig.recoveries.calmed(rig.resident)
    await rig.settle()
    await rig.recoveries.note_all()
    assert [note.work is not None for note in store.notes] == [True, False]


async def test_a_note_that_did_not_arrive_is_made_again() -> None:
    store = Shared()
    rig = await host_rig(store=store)
    rig.request()
    rig.now += 1.0
    store.away = True
    await rig.recoveries.note_all()
    store.away = False
    await rig.recoveries.note_all()
    assert len(store.notes) == 1


async def test_a_breaker_that_opened_is_noted_until_the_store_has_it() -> None:
    store = Shared()
    rig = await host_rig(store=store)
    for _ in range(rig.host.breakers.failure_threshold):
        exchange = rig.request()
        exchange.given, exchange.started = enter(rig.host, rig.entry), True
        rig.resident.frame_received(frames.Failed(exchange.number, "AgentFailed", "for a test"))
        settle(rig.host, rig.resident, exchange)
    assert rig.entry.breaker.state is BreakerState.OPEN
    store.away = True
    rig.recoveries.breaker_turned(rig.resident)
    await rig.settle()
    assert rig.entry.breaker_due
    store.away = False
    await rig.recoveries.note_all()
    await rig.recoveries.note_all()
    assert len(store.notes) == 1
    kept, elsewhere = (await store.read(KEY.instance_id))[1].rate, CircuitBreaker()
    elsewhere.take_over(kept[BUCKET_BYTES:], rig.host.breakers, rig.now)
    assert (elsewhere.state, elsewhere.failures) == (BreakerState.OPEN, rig.entry.breaker.failures)


async def test_work_that_a_dead_host_left_refuses_the_next_try_when_it_is_too_often() -> None:
    store = Shared()
    rig = await host_rig(store=store, recovery={"max_failures_per_hour": 1})
    history = History(revision=rig.recoveries.revision())
    history = history.after(Failure(START - 60, Cause.HOST_LOST)).working(rig.entry.epoch, START)
    await store.note(rig.resident.ownership, history.pack())
    record = await store.get(KEY.instance_id)
    assert record is not None
    rig.recoveries.check(None, record, frozenset())
    gone = replace(record, owner=None)
    with pytest.raises(InstanceFailed, match="HostLost") as refused:
        rig.recoveries.check(None, gone, frozenset())
    assert refused.value.retry_after_seconds is None


@pytest.mark.parametrize(
    ("ended", "refused"),
    [
        pytest.param(frozenset[Incarnation](), False, id="which lives: the claim will say so"),
        pytest.param(frozenset({OTHER}), True, id="which ended"),
    ],
)
async def test_the_history_of_an_instance_at_another_host(
    rig: HostRig, ended: frozenset[Incarnation], refused: bool
) -> None:
    for _ in range(2):
        rig.entry.history = rig.entry.history.after(Failure(rig.now, Cause.HANG))
    rig.worker.end("it crashed")
    await rig.settle()
    await rig.store.claim(Claim(KEY, OTHER, Tier.WARM))
    record = await rig.store.get(KEY.instance_id)
    with pytest.raises(InstanceFailed) if refused else nullcontext():
        rig.recoveries.check(rig.entry, record, ended)


async def test_work_that_was_cut_off_is_seen_as_an_error_once_nobody_holds_it() -> None:
    store = Shared()
    rig = await host_rig(store=store)
    await store.note(rig.resident.ownership, History().working(rig.entry.epoch, START).pack())
    held = await store.get(KEY.instance_id)
    assert held is not None
    shown = [record_view(rig.host, one) for one in (held, replace(held, owner=None))]
    assert [(one.state, one.reason) for one in shown] == [("READY", ""), ("ERROR", "HostLost")]


async def test_a_pause_by_a_user_hides_no_failure_and_shows_as_paused(rig: HostRig) -> None:
    rig.worker.end("it crashed")
    await rig.settle()
    record = await rig.store.pause(KEY.instance_id, PauseReason.USER_REQUESTED)
    view = record_view(rig.host, record)
    assert (view.state, view.reason, view.recovery.cause) == ("PAUSED", "UserRequested", "Crash")


async def test_the_failure_of_long_ago_is_not_shown_any_more(rig: HostRig) -> None:
    rig.worker.end("it crashed")
    await rig.settle()
    rig.now += 3601
    assert not entry_view(rig.host, rig.entry).HasField("recovery")
