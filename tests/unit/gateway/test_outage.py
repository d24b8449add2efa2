# SPDX-License-Identifier: Apache-2.0
"""The API server is away for minutes: who may go on, until when, and what the others are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from random import Random

import pytest
from structlog.testing import capture_logs

from agentpool_core.errors import Unauthenticated, Unavailable
from agentpool_gateway.admission.cluster import ClusterIssuer
from agentpool_gateway.admission.identity import LEEWAY_SECONDS, JwtAuthenticator
from agentpool_gateway.admission.reviews import HELD_SECONDS, AccessReviews, Question, ReviewFailed
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.settings import PoolVerb
from support.callers import AUDIENCE, TokenIssuer
from support.waiting import eventually

CLUSTER = "https://kubernetes.default.svc.cluster.local"
SUPPORT = PoolName("team-a", "support")
MINUTE = 60.0
SOON = 1.0


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log lines go nowhere: writing one to a file would count as a blocking call."""
    with capture_logs():
        yield


class World:
    """A gateway's admission beside a cluster that can go away, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.away = False
        self.cluster = TokenIssuer("cluster")
        self.issuer = ClusterIssuer(AUDIENCE, self._discover, self._keys, lambda: self.now, Random(1))
        self.door = JwtAuthenticator([], lambda: self.now, self.issuer)
        self.reviews = AccessReviews(self, False, lambda: self.now)

    async def _discover(self) -> str:
        if self.away:
            raise OSError("away")
        return CLUSTER

    async def _keys(self) -> bytes:
        if self.away:
            raise OSError("away")
        return json.dumps(self.cluster.jwks()).encode()

    def watches(self, namespace: str) -> bool:
        return True

    async def review(self, question: Question) -> bool:
        if self.away:
            raise ReviewFailed("away")
        return True

    async def start(self) -> None:
        """Find the issuer and its keys."""
        task = asyncio.create_task(self.issuer.run())
        await eventually(lambda: self.issuer.known)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def token(self, account: str, seconds: float = 3600.0, issuer: TokenIssuer | None = None) -> str:
        """A token of a ServiceAccount."""
        claims = {"iss": CLUSTER, "aud": AUDIENCE, "iat": self.now, "exp": self.now + seconds}
        subject = f"system:serviceaccount:team-a:{account}"
        return "Bearer " + (issuer or self.cluster).token(subject, **claims)

    async def call(self, token: str) -> None:
        """A request's way in."""
        identity = await self.door.authenticate(token)
        await self.reviews.authorize(identity, PoolVerb.INVOKE, SUPPORT)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "every", [SOON, 20.0, 5 * MINUTE], ids=["each second", "each 20 s", "each 5 minutes"]
)
async def test_ten_minutes_without_the_api_server_stop_no_caller_that_was_known(every: float) -> None:
    world = World()
    await world.start()
    token = world.token("app")
    await world.call(token)
    world.away = True
    end = world.now + 10 * MINUTE
    while world.now < end:
        world.now += every
        await world.call(token)


async def test_a_fresh_token_of_a_known_caller_is_taken_meanwhile() -> None:
    world = World()
    await world.start()
    await world.call(world.token("app"))
    world.away = True
    world.now += 8 * MINUTE
    await world.call(world.token("app"))


async def test_after_fifteen_minutes_nobody_can_tell_any_more() -> None:
    world = World()
    await world.start()
    token = world.token("app")
    await world.call(token)
    world.away = True
    world.now += HELD_SECONDS - SOON
    await world.call(token)
    world.now += 2 * SOON
    with pytest.raises(Unavailable) as caught:
        await world.call(token)
    assert (caught.value.http_status, caught.value.retry_after_seconds) == (503, 1.0)
    assert "who may call" in caught.value.message


async def test_a_tokens_own_end_comes_first() -> None:
    world = World()
    await world.start()
    token = world.token("app", seconds=2 * MINUTE)
    await world.call(token)
    world.away = True
    world.now += 2 * MINUTE + LEEWAY_SECONDS - SOON
    await world.call(token)
    world.now += 2 * SOON
    with pytest.raises(Unauthenticated):
        await world.call(token)


async def test_a_stranger_is_told_to_come_back_and_not_that_it_has_no_right() -> None:
    world = World()
    await world.start()
    world.away = True
    with pytest.raises(Unavailable):
        await world.call(world.token("stranger"))


async def test_a_key_that_the_cluster_made_meanwhile_is_not_called_foreign() -> None:
    world = World()
    await world.start()
    world.away = True
    world.now += MINUTE
    token = world.token("app", issuer=TokenIssuer("made-since"))
    with pytest.raises(Unavailable):
        await world.call(token)


async def test_when_the_api_server_is_back_rights_are_asked_for_again() -> None:
    world = World()
    await world.start()
    token = world.token("app")
    await world.call(token)
    world.away = True
    world.now += 14 * MINUTE
    await world.call(token)
    world.away = False
    world.now += 3.0
    await world.call(token)
    world.away = True
    world.now += 14 * MINUTE
    await world.call(token)
