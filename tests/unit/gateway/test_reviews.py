# SPDX-License-Identifier: Apache-2.0
"""Rights that the cluster decides on: how long its answers are kept, and what holds when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from agentpool_core.errors import PermissionDenied, PoolNotFound, Unavailable
from agentpool_gateway.admission.identity import Identity
from agentpool_gateway.admission.reviews import (
    ALLOWED_SECONDS,
    DENIED_SECONDS,
    HELD_SECONDS,
    REFRESH_SECONDS,
    REMEMBERED,
    RETRY_SECONDS,
    TROUBLE_SECONDS,
    AccessReviews,
    Question,
    ReviewFailed,
)
from agentpool_gateway.kube.cluster import review_body
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.settings import PoolVerb

SUPPORT = PoolName("team-a", "support")
APP = Identity("app", "issuer", 2e9, "system:serviceaccount:team-a:app", ("system:authenticated",))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log lines go nowhere: writing one to a file would count as a blocking call."""
    with capture_logs():
        yield


class FakeCluster:
    """Answers reviews; a test sets what they say."""

    def __init__(self) -> None:
        self.allows: Callable[[Question], bool] = lambda _: True
        self.away = False
        self.asked: list[Question] = []
        self.held = asyncio.Event()
        self.held.set()

    def watches(self, namespace: str) -> bool:
        return namespace != "elsewhere"

    async def review(self, question: Question) -> bool:
        self.asked.append(question)
        await self.held.wait()
        if self.away:
            raise ReviewFailed("away")
        return self.allows(question)


class World:
    """Reviews with a cluster and a clock of their own."""

    def __init__(self, bind_tenants: bool = False) -> None:
        self.now = 1000.0
        self.cluster = FakeCluster()
        self.reviews = AccessReviews(self.cluster, bind_tenants, lambda: self.now)

    async def allowed(self, verb: PoolVerb = PoolVerb.INVOKE) -> bool:
        """Whether the caller may; lets a refresh in the background end."""
        try:
            await self.reviews.authorize(APP, verb, SUPPORT)
        except PermissionDenied:
            return False
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return True


async def test_the_cluster_is_asked_about_user_groups_verb_and_pool() -> None:
    world = World()
    assert await world.allowed(PoolVerb.PAUSE)
    assert world.cluster.asked == [Question(APP.user, APP.groups, "pause", "team-a", "support")]


TIMES = [
    pytest.param(True, REFRESH_SECONDS - 1, True, 1, id="an allow is kept"),
    pytest.param(True, REFRESH_SECONDS + 1, True, 2, id="an older one is refreshed while it still holds"),
    pytest.param(True, ALLOWED_SECONDS + 1, True, 2, id="a used-up one is asked for again"),
    pytest.param(False, DENIED_SECONDS - 1, False, 1, id="a refusal is kept for a moment"),
    pytest.param(False, DENIED_SECONDS + 1, False, 2, id="and asked for again soon"),
]


@pytest.mark.parametrize(("allows", "later", "allowed", "asked"), TIMES)
async def test_answers_are_kept_for_a_while(allows: bool, later: float, allowed: bool, asked: int) -> None:
    world = World()
    world.cluster.allows = lambda _: allows
    assert await world.allowed() is allows
    world.now += later
    assert await world.allowed() is allowed
    assert len(world.cluster.asked) == asked


async def test_a_right_that_was_taken_away_ends_with_the_next_answer() -> None:
    world = World()
    await world.allowed()
    world.cluster.allows = lambda _: False
    world.now += REFRESH_SECONDS + 1
    assert await world.allowed(), "the refresh runs beside the request"
    assert not await world.allowed()


async def test_a_right_that_was_given_is_seen_once_the_refusal_is_old() -> None:
    world = World()
    world.cluster.allows = lambda _: False
    assert not await world.allowed()
    world.cluster.allows = lambda _: True
    world.now += DENIED_SECONDS
    assert await world.allowed()


@pytest.mark.parametrize(
    ("later", "holds"),
    [
        pytest.param(ALLOWED_SECONDS + 1, True, id="just used up"),
        pytest.param(HELD_SECONDS - 1, True, id="for nearly a quarter of an hour"),
        pytest.param(HELD_SECONDS + 1, False, id="no longer"),
    ],
)
async def test_an_allow_holds_while_the_cluster_cannot_be_asked(later: float, holds: bool) -> None:
    world = World()
    await world.allowed()
    world.cluster.away = True
    world.now += later
    if holds:
        assert await world.allowed()
    else:
        with pytest.raises(Unavailable):
            await world.allowed()


async def test_while_the_cluster_is_away_callers_with_a_right_do_not_wait_for_it() -> None:
    world = World()
    await world.allowed()
    world.cluster.away = True
    world.now += ALLOWED_SECONDS + 1
    await world.allowed()
    asked = len(world.cluster.asked)
    world.cluster.held.clear()
    assert await asyncio.wait_for(world.reviews.authorize(APP, PoolVerb.INVOKE, SUPPORT), 1)
    assert len(world.cluster.asked) == asked
    world.now += RETRY_SECONDS
    assert await asyncio.wait_for(world.allowed(), 1)
    assert len(world.cluster.asked) == asked + 1, "after a pause it is tried again, beside the request"
    world.cluster.held.set()


async def test_trouble_that_is_long_over_does_not_make_an_old_allow_good() -> None:
    world = World()
    await world.allowed()
    world.cluster.away = True
    world.now += ALLOWED_SECONDS + 1
    await world.allowed()
    world.cluster.away = False
    world.cluster.allows = lambda _: False
    world.now += TROUBLE_SECONDS
    assert not await world.allowed()


async def test_neither_a_refusal_nor_ignorance_becomes_a_right_or_a_403() -> None:
    world = World()
    world.cluster.allows = lambda _: False
    assert not await world.allowed()
    world.cluster.away = True
    world.now += DENIED_SECONDS
    with pytest.raises(Unavailable):
        await world.allowed()


async def test_callers_who_ask_the_same_at_one_time_share_a_review_and_one_who_leaves_ends_it_not() -> None:
    world = World()
    world.cluster.held.clear()
    callers = [asyncio.create_task(world.reviews.authorize(APP, PoolVerb.INVOKE, SUPPORT)) for _ in range(5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    world.cluster.held.set()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert len(world.cluster.asked) == 1
    assert isinstance(ends[0], asyncio.CancelledError)
    assert not any(isinstance(end, BaseException) for end in ends[1:])


async def test_answers_are_bounded_and_the_least_used_goes_first() -> None:
    world = World()
    await world.allowed()
    for number in range(REMEMBERED):
        await world.reviews.authorize(APP, PoolVerb.GET, PoolName("team-a", f"pool-{number}"))
    assert await world.allowed()
    assert world.cluster.asked[-1].verb == "invoke"


async def test_a_namespace_that_is_not_served_is_not_asked_about() -> None:
    world = World()
    with pytest.raises(PoolNotFound):
        await world.reviews.authorize(APP, PoolVerb.GET, PoolName("elsewhere", "support"))
    assert world.cluster.asked == []


async def test_without_binding_a_scope_covers_every_tenant() -> None:
    scope = await World().reviews.authorize(APP, PoolVerb.INVOKE, SUPPORT)
    assert (scope.tenants, scope.reviewed) == (None, False)


async def test_with_binding_each_tenant_is_asked_for_by_name_and_all_by_none() -> None:
    world = World(bind_tenants=True)
    world.cluster.allows = lambda question: question.name in ("support", "support:acme")
    scope = await world.reviews.authorize(APP, PoolVerb.INVOKE, SUPPORT)
    assert scope.reviewed
    await world.reviews.authorize_tenant(APP, SUPPORT, "acme")
    for tenant in ("beta", ""):
        with pytest.raises(PermissionDenied):
            await world.reviews.authorize_tenant(APP, SUPPORT, tenant)
    assert [(one.verb, one.subresource, one.name) for one in world.cluster.asked[1:]] == [
        ("invoke", "tenants", "support:acme"),
        ("invoke", "tenants", "support:beta"),
        ("invoke", "tenants", ""),
    ]


def test_questions_whose_parts_join_to_the_same_text_differ() -> None:
    one = Question("a", ("b", "c"), "get", "n", "p")
    other = Question("a", ("bc",), "get", "n", "p")
    assert one.digest != other.digest
    assert one.digest == Question("a", ("b", "c"), "get", "n", "p").digest


def test_a_review_of_one_namespace_names_it_twice() -> None:
    question = Question("u", ("g",), "invoke", "team-a", "", "tenants")
    body = review_body(question, local=True)
    assert (body["kind"], body["metadata"]) == ("LocalSubjectAccessReview", {"namespace": "team-a"})
    assert body["spec"] == {
        "user": "u",
        "groups": ["g"],
        "resourceAttributes": {
            "group": "agentpool.dev",
            "resource": "agentpools",
            "subresource": "tenants",
            "namespace": "team-a",
            "verb": "invoke",
        },
    }
    assert review_body(question, local=False)["kind"] == "SubjectAccessReview"
