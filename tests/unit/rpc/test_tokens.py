# SPDX-License-Identifier: Apache-2.0
"""Call tokens: what a host accepts, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

import jwt
import pytest

from agentpool_core.errors import PermissionDenied, Unauthenticated
from agentpool_core.names import Incarnation
from agentpool_rpc.tokens import (
    LIFETIME_SECONDS,
    REMEMBERED,
    RENEW_SECONDS,
    CallClaims,
    TokenSigner,
    TokenVerifier,
    Verb,
    generate_keypair,
)

PRIVATE, PUBLIC = generate_keypair()
STRANGER, STRANGER_PUBLIC = generate_keypair()
HOST = "pod-1/0001"
INVOKE = frozenset({Verb.INVOKE})


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def signer(clock: Clock, key: bytes = PRIVATE) -> TokenSigner:
    return TokenSigner(key, "gateway", clock)


def test_a_good_token_gives_its_claims() -> None:
    clock = Clock()
    ended = Incarnation("pod-0", "0009")
    token = signer(clock).authorization(HOST, INVOKE, [ended])
    claims = TokenVerifier([PUBLIC], clock).verify(token, HOST, Verb.INVOKE)
    assert claims.issuer == "gateway"
    assert claims.ended == {ended}
    assert claims.expires_at == clock.now + LIFETIME_SECONDS


def test_the_old_key_is_accepted_while_both_are_configured() -> None:
    clock = Clock()
    token = signer(clock).authorization(HOST, INVOKE)
    assert TokenVerifier([STRANGER_PUBLIC, PUBLIC], clock).verify(token, HOST, Verb.INVOKE).audience == HOST


def unsigned(clock: Clock) -> str:
    claims = {"iss": "gateway", "aud": HOST, "exp": int(clock.now) + 60, "verbs": ["invoke"], "ended": []}
    return "Bearer " + jwt.encode(claims, "", algorithm="none")


def symmetric(clock: Clock) -> str:
    # The classic confusion: the public key used as an HMAC secret.
    claims = {"iss": "gateway", "aud": HOST, "exp": int(clock.now) + 60, "verbs": ["invoke"], "ended": []}
    return "Bearer " + jwt.encode(claims, "x" * 64, algorithm="HS256")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda clock: None, id="no token"),
        pytest.param(lambda clock: "", id="an empty token"),
        pytest.param(lambda clock: "Bearer ", id="a scheme without a token"),
        pytest.param(lambda clock: "Basic abc", id="another scheme"),
        pytest.param(lambda clock: "Bearer abc.def.ghi", id="garbage"),
        pytest.param(
            lambda clock: signer(clock, STRANGER).authorization(HOST, INVOKE), id="a stranger's signature"
        ),
        pytest.param(
            lambda clock: signer(clock).authorization("pod-2/0001", INVOKE), id="a token for another host"
        ),
        pytest.param(unsigned, id="an unsigned token"),
        pytest.param(symmetric, id="a token signed with a symmetric key"),
    ],
)
def test_refuses(make) -> None:  # type: ignore[no-untyped-def]
    clock = Clock()
    with pytest.raises(Unauthenticated):
        TokenVerifier([PUBLIC], clock).verify(make(clock), HOST, Verb.INVOKE)


def test_refuses_a_verb_that_the_token_does_not_carry() -> None:
    clock = Clock()
    token = signer(clock).authorization(HOST, frozenset({Verb.GET}))
    with pytest.raises(PermissionDenied):
        TokenVerifier([PUBLIC], clock).verify(token, HOST, Verb.TERMINATE)


def test_a_remembered_token_still_ends() -> None:
    clock = Clock()
    verifier = TokenVerifier([PUBLIC], clock)
    token = signer(clock).authorization(HOST, INVOKE)
    verifier.verify(token, HOST, Verb.INVOKE)
    clock.now += LIFETIME_SECONDS + 11
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(token, HOST, Verb.INVOKE)


def test_a_remembered_token_is_not_good_for_another_audience() -> None:
    clock = Clock()
    verifier = TokenVerifier([PUBLIC], clock)
    token = signer(clock).authorization(HOST, INVOKE)
    verifier.verify(token, HOST, Verb.INVOKE)
    with pytest.raises(Unauthenticated):
        verifier.verify(token, "pod-1/0002", Verb.INVOKE)


def test_the_signer_reuses_a_token_until_it_is_half_old() -> None:
    clock = Clock()
    source = signer(clock)
    first = source.authorization(HOST, INVOKE)
    assert source.authorization(HOST, INVOKE) == first
    clock.now += LIFETIME_SECONDS - RENEW_SECONDS
    assert source.authorization(HOST, INVOKE) != first


def test_a_proof_is_never_put_into_the_reused_token() -> None:
    clock = Clock()
    source = signer(clock)
    source.authorization(HOST, INVOKE, [Incarnation("pod-0", "1")])
    claims = TokenVerifier([PUBLIC], clock).verify(source.authorization(HOST, INVOKE), HOST, Verb.INVOKE)
    assert claims.ended == frozenset()


def test_refuses_to_start_without_a_key() -> None:
    with pytest.raises(ValueError, match="public key"):
        TokenVerifier([], Clock())


LEASED = "inst-1"


def leased(clock: Clock, instance: str = LEASED) -> str:
    return signer(clock).lease(HOST, instance)[0]


def test_a_lease_is_good_for_requests_of_its_instance_and_says_when_it_ends() -> None:
    clock = Clock()
    token, expires_at = signer(clock).lease(HOST, LEASED)
    claims = TokenVerifier([PUBLIC], clock).verify(token, HOST, Verb.INVOKE, lambda: LEASED)
    assert (claims.instance, claims.expires_at, claims.ended) == (LEASED, expires_at, frozenset())
    assert expires_at == clock.now + LIFETIME_SECONDS


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.INVOKE])
def test_a_lease_is_good_for_no_other_verb(verb: Verb) -> None:
    clock = Clock()
    with pytest.raises(PermissionDenied):
        TokenVerifier([PUBLIC], clock).verify(leased(clock), HOST, verb, lambda: LEASED)


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param(lambda: "inst-2", id="another instance"),
        pytest.param(None, id="no instance in particular"),
    ],
)
def test_a_lease_is_good_for_no_other_instance_also_once_it_is_remembered(instance) -> None:  # type: ignore[no-untyped-def]
    clock = Clock()
    verifier = TokenVerifier([PUBLIC], clock)
    verifier.verify(leased(clock), HOST, Verb.INVOKE, lambda: LEASED)
    with pytest.raises(PermissionDenied):
        verifier.verify(leased(clock), HOST, Verb.INVOKE, instance)


def test_a_lease_ends_and_is_for_one_host() -> None:
    clock = Clock()
    verifier = TokenVerifier([PUBLIC], clock)
    token = leased(clock)
    with pytest.raises(Unauthenticated):
        verifier.verify(token, "pod-1/0002", Verb.INVOKE, lambda: LEASED)
    clock.now += LIFETIME_SECONDS + 11
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(token, HOST, Verb.INVOKE, lambda: LEASED)


def test_a_host_of_an_earlier_release_takes_a_lease_for_nothing_at_all() -> None:
    # Such a host looks at `verbs` alone; the one that it knows for requests must not be there.
    claims = jwt.decode(leased(Clock()).removeprefix("Bearer "), options={"verify_signature": False})
    assert claims["verbs"] == ["invoke-leased"]


def test_many_leases_do_not_have_the_gateways_own_token_checked_again() -> None:
    clock = Clock()
    verifier = TokenVerifier([PUBLIC], clock)
    for number in range(REMEMBERED + 5):
        verifier._seen[str(number)] = CallClaims("x", HOST, frozenset(), frozenset(), clock.now)
    token = signer(clock).authorization(HOST, INVOKE)
    verifier.verify(token, HOST, Verb.INVOKE)
    assert token in verifier._seen
    verifier.verify(leased(clock), HOST, Verb.INVOKE, lambda: LEASED)
    assert token in verifier._seen
