# SPDX-License-Identifier: Apache-2.0
"""Who is let in: tokens, keys and rights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from agentpool_core.errors import PermissionDenied, Unauthenticated, Unavailable
from agentpool_gateway.admission.identity import Identity, JwtAuthenticator
from agentpool_gateway.admission.keys import REFRESH_SECONDS, KeySource
from agentpool_gateway.admission.rights import StaticGrants
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.settings import Grant, Issuer, PoolVerb
from support.callers import AUDIENCE, ISSUER, TokenIssuer

SUPPORT = PoolName("team-a", "support")


class Document:
    """A JWKS that a test changes, and counts the fetches of."""

    def __init__(self, *issuers: TokenIssuer) -> None:
        self.keys = [key for issuer in issuers for key in issuer.jwks()["keys"]]
        self.fetches = 0
        self.broken = False

    async def fetch(self) -> bytes:
        self.fetches += 1
        if self.broken:
            raise OSError("unreachable")
        return json.dumps({"keys": self.keys}).encode()


class Clock:
    """Time that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def authenticator(
    document: Document, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
) -> JwtAuthenticator:
    issuer = Issuer(issuer=ISSUER, audience=AUDIENCE, jwks_url="https://issuer.test/keys")
    return JwtAuthenticator([(issuer, KeySource(ISSUER, document.fetch, clock))], wall)


async def test_a_good_token_names_its_subject_and_is_verified_once() -> None:
    issuer = TokenIssuer()
    document = Document(issuer)
    door = authenticator(document)
    header = "Bearer " + issuer.token("app-1")
    first = await door.authenticate(header)
    assert (first.subject, first.issuer) == ("app-1", ISSUER)
    assert await door.authenticate(header) is first
    assert document.fetches == 1


STRANGER = TokenIssuer("key-1")
PLAIN = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": 2**33}, "s" * 32, algorithm="HS256")
UNSIGNED = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": 2**33}, "", algorithm="none")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(lambda _: None, id="no header"),
        pytest.param(lambda _: "Bearer", id="no token"),
        pytest.param(lambda _: "Bearer a.b.c", id="no JWT"),
        pytest.param(lambda issuer: "Basic " + issuer.token(), id="another scheme"),
        pytest.param(lambda _: "Bearer " + STRANGER.token(), id="signed by somebody else"),
        pytest.param(lambda _: "Bearer " + PLAIN, id="symmetric algorithm"),
        pytest.param(lambda _: "Bearer " + UNSIGNED, id="no signature"),
        pytest.param(lambda issuer: "Bearer " + issuer.token(exp=time.time() - 60), id="expired"),
        pytest.param(lambda issuer: "Bearer " + issuer.token(nbf=time.time() + 60), id="not valid yet"),
        pytest.param(lambda issuer: "Bearer " + issuer.token(exp=None), id="without an end"),
        pytest.param(lambda issuer: "Bearer " + issuer.token(sub=None), id="without a subject"),
        pytest.param(lambda issuer: "Bearer " + issuer.token(aud="other"), id="for another audience"),
        pytest.param(
            lambda issuer: "Bearer " + issuer.token(iss="https://evil.test"), id="of another issuer"
        ),
        pytest.param(lambda issuer: "Bearer " + issuer.token()[:-6] + "AAAAAA", id="forged"),
    ],
)
async def test_a_bad_token_is_refused(header: Callable[[TokenIssuer], str | None]) -> None:
    issuer = TokenIssuer()
    with pytest.raises(Unauthenticated):
        await authenticator(Document(issuer)).authenticate(header(issuer))


async def test_a_token_that_was_verified_is_refused_once_it_expired() -> None:
    issuer, wall = TokenIssuer(), Clock(time.time())
    door = authenticator(Document(issuer), wall=wall)
    header = "Bearer " + issuer.token(exp=wall.now + 60)
    await door.authenticate(header)
    wall.now += 75
    with pytest.raises(Unauthenticated):
        await door.authenticate(header)


async def test_an_unknown_key_is_looked_for_at_most_every_ten_seconds() -> None:
    old, new, clock = TokenIssuer("old"), TokenIssuer("new"), Clock()
    document = Document(old)
    door = authenticator(document, clock)
    await door.authenticate("Bearer " + old.token())
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await door.authenticate("Bearer " + new.token())
    assert document.fetches == 1
    document.keys = Document(old, new).keys
    clock.now += REFRESH_SECONDS
    assert (await door.authenticate("Bearer " + new.token())).subject == "app"
    assert document.fetches == 2


async def test_known_keys_serve_on_while_the_issuer_is_away() -> None:
    issuer, clock = TokenIssuer(), Clock()
    document = Document(issuer)
    door = authenticator(document, clock)
    await door.authenticate("Bearer " + issuer.token("first"))
    document.broken = True
    clock.now += 1000
    # It may be a key that the issuer has made since: nobody can tell, and nobody is called a stranger.
    with pytest.raises(Unavailable):
        await door.authenticate("Bearer " + TokenIssuer("new").token())
    assert (await door.authenticate("Bearer " + issuer.token("second"))).subject == "second"


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys": 1}', b'{"keys": []}', b"\xff"])
async def test_keys_that_never_came_are_the_gateways_trouble(document: bytes) -> None:
    async def fetch() -> bytes:
        return document

    issuer = Issuer(issuer=ISSUER, jwks_url="https://issuer.test/keys")
    door = JwtAuthenticator([(issuer, KeySource(ISSUER, fetch, Clock()))], time.time)
    with pytest.raises(Unavailable):
        await door.authenticate("Bearer " + TokenIssuer().token())


GRANTS = [
    Grant(subject="app-*", namespace="team-a", verbs=(PoolVerb.INVOKE, PoolVerb.GET)),
    Grant(subject="narrow", pool="support", verbs=(PoolVerb.INVOKE,), tenants=("acme", "beta-*")),
    Grant(subject="narrow", verbs=(PoolVerb.INVOKE,), tenants=("gamma",)),
    Grant(subject="both", verbs=(PoolVerb.GET,), tenants=("acme",)),
    Grant(subject="both", verbs=(PoolVerb.GET,)),
]


@pytest.mark.parametrize(
    ("subject", "verb", "pool", "tenants"),
    [
        pytest.param("app-1", PoolVerb.INVOKE, SUPPORT, None, id="a pattern matches"),
        pytest.param("app-1", PoolVerb.PAUSE, SUPPORT, (), id="another verb is refused"),
        pytest.param(
            "app-1", PoolVerb.GET, PoolName("team-b", "support"), (), id="another namespace is refused"
        ),
        pytest.param("App-1", PoolVerb.GET, SUPPORT, (), id="case matters"),
        pytest.param("narrow", PoolVerb.INVOKE, SUPPORT, ("acme", "beta-*", "gamma"), id="tenants add up"),
        pytest.param(
            "narrow", PoolVerb.INVOKE, PoolName("x", "y"), ("gamma",), id="only grants of the pool count"
        ),
        pytest.param("both", PoolVerb.GET, SUPPORT, None, id="a grant for all tenants wins"),
        pytest.param("nobody", PoolVerb.GET, SUPPORT, (), id="nobody is refused"),
    ],
)
async def test_rights(subject: str, verb: PoolVerb, pool: PoolName, tenants: Any) -> None:
    identity = Identity(subject, ISSUER, 0.0)
    if tenants == ():
        with pytest.raises(PermissionDenied):
            await StaticGrants(GRANTS).authorize(identity, verb, pool)
    else:
        assert (await StaticGrants(GRANTS).authorize(identity, verb, pool)).tenants == tenants


async def test_a_scope_covers_its_tenants_only() -> None:
    scope = await StaticGrants(GRANTS).authorize(Identity("narrow", ISSUER, 0.0), PoolVerb.INVOKE, SUPPORT)
    assert scope.covers("acme") and scope.covers("beta-2")
    with pytest.raises(PermissionDenied):
        scope.require("acme-2")
