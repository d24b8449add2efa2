# SPDX-License-Identifier: Apache-2.0
"""What the library does, once with asyncio and once with threads, against a real gateway and a real host."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentpool_client import Accepted, Answer, Chunk, HandleReleased, RetryPolicy
from agentpool_client.sync import AgentPool as ThreadPool
from agentpool_core import errors
from support.clients import KINDS, Side, client
from support.hosts import COUNTER, instance_id, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

# One system for all: every test has projects of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")
LEASES = {"direct_access": True}
_numbers = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spine() -> AsyncIterator[Spine]:
    """One host, one gateway."""
    async with running_spine(pool_config(agent=COUNTER, storage="Redis"), settings=LEASES) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def side(kind: str, spine: Spine) -> AsyncIterator[Side]:
    """A client of either kind."""
    async with client(kind, spine.gateways[0].grpc_address) as one:
        yield one


@pytest.fixture
def p() -> str:
    """A project that nobody used before."""
    return f"project-{next(_numbers)}"


def metric(text: str, name: str, **labels: str) -> float:
    """The value of one series of the gateway's metrics; 0 when it is not there."""
    for line in text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


LEASED = {
    "acquired": ("agent_pool_leases_total", {"event": "acquired"}),
    "released": ("agent_pool_leases_total", {"event": "released"}),
    "success": ("agent_pool_leased_requests_total", {"outcome": "success"}),
    "failure": ("agent_pool_leased_requests_total", {"outcome": "failure"}),
    "held": ("agent_pool_lease_held_seconds_count", {}),
}


async def leased(spine: Spine) -> dict[str, float]:
    """What the gateway counted of leases so far."""
    text = (await spine.gateways[0].client().get("/metrics")).text
    return {name: metric(text, series, **labels) for name, (series, labels) in LEASED.items()}


async def since(spine: Spine, before: dict[str, float]) -> dict[str, float]:
    """What it counted since then."""
    return {name: value - before[name] for name, value in (await leased(spine)).items()}


async def test_requests_go_to_the_host_itself_from_the_second_on(side: Side, p: str) -> None:
    answers = [await side.invoke("acme", p, "add") for _ in range(4)]
    assert [one.output for one in answers] == [1, 2, 3, 4]
    assert [one.direct for one in answers] == [False, True, True, True]
    assert {one.instance_id for one in answers} == {instance_id("acme", p)}


async def test_a_stream_ends_with_its_answer_either_way(side: Side, p: str) -> None:
    for direct in (False, True):
        events = await side.events("acme", p, "stream")
        assert [type(one) for one in events] == [Accepted, Chunk, Chunk, Chunk, Answer]
        assert [one.data for one in events if isinstance(one, Chunk)] == [0, 1, 2]
        last = events[-1]
        assert isinstance(last, Answer) and last.direct is direct


async def test_a_handle_is_released_once_with_the_true_outcome(side: Side, spine: Spine, p: str) -> None:
    # The host reports four times a second.
    await asyncio.sleep(1)
    before, operations = await leased(spine), (await side.stats())["total_operations_processed"]
    used = await side.use("acme", p, ["add", "reject", "raise", "add"])
    assert [one.output for one in used.answers] == [1, 2], "what failed changed nothing"
    assert all(one.direct for one in used.answers)
    assert (used.instance_id, used.requests, used.failures) == (instance_id("acme", p), 4, 2)
    wanted = {"acquired": 1, "released": 1, "success": 2, "failure": 2, "held": 1}
    assert await since(spine, before) == wanted

    async def counted() -> bool:
        # Each request is counted by the host, failed ones too, and told by its next report.
        return bool((await side.stats())["total_operations_processed"] - operations == 4)

    await eventually(counted, 10)


async def test_a_released_handle_refuses(side: Side, spine: Spine, p: str) -> None:
    before = await leased(spine)
    with pytest.raises(HandleReleased) as caught:
        await side.use_after_release("acme", p)
    assert "acquire another" in caught.value.hint
    assert (await since(spine, before))["released"] == 1


async def test_instances_are_listed_paused_resumed_moved_and_ended(side: Side, p: str) -> None:
    created = await side.operate("create", "acme", p)
    other = await side.operate("create", "bistro", p)
    assert {created.id, other.id} <= {one.id for one in await side.listed()}
    assert [one.id for one in await side.listed(tenant_id="acme", project_id=p)] == [created.id]
    assert (await side.operate("pause", created.id)).state == "PAUSED"
    with pytest.raises(errors.InstancePaused):
        await side.invoke("acme", p, "add")
    assert (await side.operate("resume", created.id)).state == "READY"
    assert (await side.operate("get", created.id)).tier == "WARM"
    with pytest.raises(errors.NoHost):
        await side.operate("move", created.id, "COLD")
    assert (await side.operate("terminate", created.id)).state == "TERMINATED"
    with pytest.raises(errors.InstanceNotFound):
        await side.operate("get", created.id)


async def test_a_key_of_the_callers_makes_a_change_once(side: Side, p: str) -> None:
    for direct in (False, True):
        project = f"{p}-{direct}"
        if direct:
            await side.use("acme", project, ["get"])
        first = await side.invoke("acme", project, "add", idempotency_key="once")
        second = await side.invoke("acme", project, "add", idempotency_key="once")
        assert (first.output, first.replayed) == (1, False)
        assert (second.output, second.replayed) == (1, True)


async def test_the_agents_errors_are_raised_as_what_they_are(side: Side, p: str) -> None:
    for _ in range(2):
        with pytest.raises(errors.InputRejected):
            await side.invoke("acme", p, "reject")
    with pytest.raises(errors.InvalidRequest, match="JSON"):
        await side.invoke("acme", p, object())


async def test_the_deadline_holds_either_way(side: Side, p: str) -> None:
    for _ in range(2):
        with pytest.raises(errors.DeadlineExceeded):
            await side.invoke("acme", p, {"sleep": 30}, timeout_seconds=0.4)


async def test_a_tier_is_chosen_through_the_gateway(side: Side, p: str) -> None:
    await side.use("acme", p, ["get"])
    assert not (await side.invoke("acme", p, "get", tier="WARM")).direct


async def test_a_change_of_two_clients_at_once_is_seen_by_both(kind: str, spine: Spine, p: str) -> None:
    address = spine.gateways[0].grpc_address
    async with client(kind, address) as one, client(kind, address) as other:
        outputs = []
        for _ in range(3):
            outputs += [(await each.invoke("acme", p, "add")).output for each in (one, other)]
    assert outputs == [1, 2, 3, 4, 5, 6]


async def test_many_requests_at_once_lose_none(side: Side, p: str) -> None:
    await side.invoke("acme", p, "get")
    answers = await asyncio.gather(*(side.invoke("acme", p, "add") for _ in range(50)))
    assert sorted(one.output for one in answers) == list(range(1, 51))


@pytest.mark.parametrize("kind", KINDS)
async def test_where_leases_are_off_everything_goes_through_the_gateway(kind: str, p: str) -> None:
    async with running_spine(pool_config(agent=COUNTER, storage="Redis")) as spine:
        async with client(kind, spine.gateways[0].grpc_address) as side:
            used = await side.use("acme", p, ["add", "add"])
            answers = [*used.answers, await side.invoke("acme", p, "add")]
    assert [(one.output, one.direct) for one in answers] == [(1, False), (2, False), (3, False)]
    assert (used.instance_id, used.requests, used.failures) == (instance_id("acme", p), 2, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_pool_that_keeps_no_keys_is_served_without(kind: str, p: str) -> None:
    async with running_spine(pool_config(agent=COUNTER, storage="Memory"), settings=LEASES) as spine:
        async with client(kind, spine.gateways[0].grpc_address) as side:
            answers = [await side.invoke("acme", p, "add") for _ in range(3)]
            with pytest.raises(errors.IdempotencyUnsupported):
                await side.invoke("acme", p, "add", idempotency_key="once")
    assert [one.output for one in answers] == [1, 2, 3]


async def occupied(side: Side, project: str) -> asyncio.Task[Answer]:
    """A request that holds the only permit of an instance for three seconds."""
    slow = asyncio.create_task(side.invoke("acme", project, {"sleep": 3}))

    async def busy() -> bool:
        return any(one.active_requests for one in await side.listed(project_id=project))

    await eventually(busy, 10)
    return slow


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_instance_is_waited_for_by_the_policy(kind: str, p: str) -> None:
    config = pool_config(agent=COUNTER, storage="Redis", concurrent=1)
    async with running_spine(config, settings=LEASES) as spine:
        address = spine.gateways[0].grpc_address
        async with client(kind, address, retries=RetryPolicy(attempts=1)) as hasty:
            slow = await occupied(hasty, p)
            with pytest.raises(errors.ConcurrencyExceeded) as caught:
                await hasty.invoke("acme", p, "add")
            assert caught.value.retry_after_seconds
            await slow
        patient = RetryPolicy(attempts=50, first_pause_seconds=0.1, last_pause_seconds=0.2)
        async with client(kind, address, retries=patient) as side:
            slow = await occupied(side, p)
            answer = await side.invoke("acme", p, "add")
            assert answer.output == 1 and answer.attempts > 1
            await slow


async def test_the_client_for_threads_serves_many_threads(spine: Spine, p: str) -> None:
    with ThreadPool(f"grpc://{spine.gateways[0].grpc_address}") as pool:
        outputs = await asyncio.gather(
            *(asyncio.to_thread(lambda: pool.invoke("acme", p, "add").output) for _ in range(40))
        )
    assert sorted(outputs) == list(range(1, 41))
