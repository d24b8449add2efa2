# SPDX-License-Identifier: Apache-2.0
"""Tokens of ServiceAccounts, and how callers are called in the cluster's RBAC."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from structlog.testing import capture_logs

from agentpool_core.errors import Unauthenticated, Unavailable
from agentpool_gateway.admission.cluster import ClusterIssuer
from agentpool_gateway.admission.identity import JwtAuthenticator
from agentpool_gateway.admission.keys import KeySource
from agentpool_gateway.settings import Issuer
from support.callers import AUDIENCE, ISSUER, TokenIssuer

CLUSTER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log lines go nowhere: writing one to a file would count as a blocking call."""
    with capture_logs():
        yield


class World:
    """A cluster that issues tokens, beside an issuer of somebody else."""

    def __init__(self) -> None:
        self.cluster, self.other = TokenIssuer("cluster"), TokenIssuer("other")
        self.away = False
        self.asked = asyncio.Event()
        self.issuer = ClusterIssuer(AUDIENCE, self._discover, self._keys, time.monotonic, Random(1))

        async def others() -> bytes:
            return json.dumps(self.other.jwks()).encode()

        source = KeySource(ISSUER, others, time.monotonic)
        configured = Issuer(issuer=ISSUER, jwks_url="https://issuer.test/keys")
        self.door = JwtAuthenticator([(configured, source)], time.time, self.issuer)

    async def _discover(self) -> str:
        if self.away:
            raise OSError("away")
        return CLUSTER

    async def _keys(self) -> bytes:
        self.asked.set()
        if self.away:
            raise OSError("away")
        return json.dumps(self.cluster.jwks()).encode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.issuer.run())
        await self.asked.wait()
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def account(self, subject: str, issuer: str = CLUSTER, audience: str = AUDIENCE) -> str:
        return "Bearer " + self.cluster.token(subject, iss=issuer, aud=audience)


async def test_a_service_account_has_the_names_that_the_api_server_gives_it() -> None:
    world = World()
    async with world.running():
        found = await world.door.authenticate(world.account("system:serviceaccount:team-a:app"))
    assert found.user == "system:serviceaccount:team-a:app"
    assert found.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:team-a",
        "system:authenticated",
    )


@pytest.mark.parametrize("subject", ["system:admin", "system:serviceaccount:team-a", "alice"])
async def test_the_clusters_tokens_speak_for_service_accounts_alone(subject: str) -> None:
    world = World()
    async with world.running():
        with pytest.raises(Unauthenticated):
            await world.door.authenticate(world.account(subject))


async def test_another_issuer_cannot_pass_for_an_account_of_the_cluster() -> None:
    world = World()
    subject = "system:serviceaccount:team-a:app"
    async with world.running():
        found = await world.door.authenticate("Bearer " + world.other.token(subject))
        assert (found.user, found.groups) == (f"{ISSUER}#{subject}", ("system:authenticated",))
        with pytest.raises(Unauthenticated):
            await world.door.authenticate("Bearer " + world.other.token(subject, iss=CLUSTER))


async def test_a_token_for_another_audience_is_refused() -> None:
    world = World()
    async with world.running():
        with pytest.raises(Unauthenticated):
            await world.door.authenticate(
                world.account("system:serviceaccount:a:b", audience="https://kubernetes.default.svc")
            )


async def test_before_the_cluster_told_its_issuer_nobody_gets_a_401_for_that() -> None:
    world = World()
    world.away = True
    async with world.running():
        assert not world.issuer.known
        with pytest.raises(Unavailable):
            await world.door.authenticate(world.account("system:serviceaccount:a:b"))
        found = await world.door.authenticate("Bearer " + world.other.token("app"))
        assert found.subject == "app", "other issuers' tokens are taken meanwhile"


async def test_what_is_known_stays_when_the_cluster_goes_away() -> None:
    world = World()
    async with world.running():
        assert world.issuer.known
    world.away = True
    world.asked.clear()
    async with world.running():
        found = await world.door.authenticate(world.account("system:serviceaccount:a:b"))
    assert found.user == "system:serviceaccount:a:b"
