# SPDX-License-Identifier: Apache-2.0
"""Call tokens: how gateway and operator prove themselves to a host.

An EdDSA JWS in `authorization` metadata, valid for one minute, for one host incarnation and a set of verbs.
`ended` carries the proof that other incarnations are dead. Hosts hold public keys only, so nothing on a
pod network, a worker included, can make a token.

A token with `instance` is leased: an application holds it and talks to the host itself. It carries a verb
of its own, `invoke-leased`, that hosts of an earlier release do not know, so that none takes it for more
than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from agentpool_core.errors import PermissionDenied, Unauthenticated
from agentpool_core.names import Incarnation

ALGORITHM = "EdDSA"
LIFETIME_SECONDS = 60
"""Short, so that a token read off a wire is soon worthless; long enough for clock differences."""
RENEW_SECONDS = 30
"""A cached token is replaced when it has less than this left."""
LEEWAY_SECONDS = 10
"""Accepted difference between the clocks of signer and host."""
REMEMBERED = 4096
"""Verified tokens a host remembers: one or two for each signer, and one for each lease."""


class Verb(StrEnum):
    """What a call token allows on a host."""

    WATCH = "watch"
    INVOKE = "invoke"
    INVOKE_LEASED = "invoke-leased"
    """Requests of the one instance that the token names."""
    ACTIVATE = "activate"
    PAUSE = "pause"
    RESUME = "resume"
    TERMINATE = "terminate"
    MOVE = "move"
    RETIRE = "retire"
    CONFIGURE = "configure"
    GET = "get"
    EXPORT = "export"
    IMPORT = "import"
    FLAGS = "flags"


@dataclass(frozen=True, slots=True)
class CallClaims:
    """A verified token."""

    issuer: str
    audience: str
    verbs: frozenset[str]
    ended: frozenset[Incarnation]
    expires_at: float
    instance: str = ""
    """The one instance that a leased token is for; empty: any."""


def generate_keypair() -> tuple[bytes, bytes]:
    """A new private and public key, both PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private, public


class TokenSigner:
    """Makes call tokens and keeps those that are still good.

    Args:
        private_key: Ed25519 key, PEM.
        issuer: name of the signing component, for the host's audit log.
        clock: seconds since 1970.
    """

    def __init__(self, private_key: bytes, issuer: str, clock: Callable[[], float]) -> None:
        key = load_pem_private_key(private_key, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the call token key must be an Ed25519 private key")
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._cache: dict[tuple[str, frozenset[Verb]], tuple[str, float]] = {}

    def authorization(self, audience: str, verbs: frozenset[Verb], ended: Iterable[Incarnation] = ()) -> str:
        """The value of the `authorization` metadata for one host and some verbs."""
        proof = sorted(str(one) for one in ended)
        now = self._clock()
        cached = self._cache.get((audience, verbs))
        if cached is not None and not proof and cached[1] - now > RENEW_SECONDS:
            return cached[0]
        expires = now + LIFETIME_SECONDS
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "iat": int(now),
            "exp": int(expires),
            "verbs": sorted(verbs),
            "ended": proof,
        }
        value = "Bearer " + jwt.encode(claims, self._key, algorithm=ALGORITHM)
        if not proof:
            if len(self._cache) >= REMEMBERED:
                self._cache.clear()
            self._cache[(audience, verbs)] = (value, expires)
        return value

    def lease(self, audience: str, instance_id: str) -> tuple[str, float]:
        """A token for requests of one instance at one host, to be given away, and when it ends."""
        now = self._clock()
        expires = float(int(now) + LIFETIME_SECONDS)
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "iat": int(now),
            "exp": int(expires),
            "verbs": [Verb.INVOKE_LEASED],
            "instance": instance_id,
        }
        return "Bearer " + jwt.encode(claims, self._key, algorithm=ALGORITHM), expires


class TokenVerifier:
    """Checks call tokens against public keys, newest first, and remembers good ones until they end."""

    def __init__(self, public_keys: Sequence[bytes], clock: Callable[[], float]) -> None:
        if not public_keys:
            raise ValueError("at least one public key is needed")
        self._keys = [load_pem_public_key(pem) for pem in public_keys]
        self._clock = clock
        self._seen: dict[str, CallClaims] = {}

    def verify(
        self,
        authorization: str | None,
        audience: str,
        verb: Verb,
        instance: Callable[[], str] | None = None,
    ) -> CallClaims:
        """The claims of a token for this audience that allows `verb`.

        Args:
            instance: id of the instance that the call is about. Without it, and for other verbs than
                INVOKE, no leased token is good.

        Raises Unauthenticated for a missing, forged, foreign or expired token, PermissionDenied for one
        without the verb, or leased for something else.
        """
        if not authorization:
            raise Unauthenticated("The call carries no token.", remedy="Call through the gateway.")
        claims = self._seen.get(authorization)
        if (
            claims is None
            or claims.expires_at + LEEWAY_SECONDS < self._clock()
            or claims.audience != audience
        ):
            claims = self._check(authorization, audience)
            if len(self._seen) >= REMEMBERED:
                # The oldest one: many leases must not have the gateway's own token checked again and again.
                del self._seen[next(iter(self._seen))]
            self._seen[authorization] = claims
        if claims.instance:
            self._check_lease(claims, verb, instance)
        elif verb not in claims.verbs:
            raise PermissionDenied(f"The call token does not allow {verb}.")
        return claims

    def _check_lease(self, claims: CallClaims, verb: Verb, instance: Callable[[], str] | None) -> None:
        if verb is not Verb.INVOKE or Verb.INVOKE_LEASED not in claims.verbs or instance is None:
            raise PermissionDenied(f"A leased call token does not allow {verb}.")
        if instance() != claims.instance:
            raise PermissionDenied("The leased call token is for another instance.")

    def _check(self, authorization: str, audience: str) -> CallClaims:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("The authorization metadata is not a bearer token.")
        for key in self._keys:
            try:
                payload = jwt.decode(
                    token,
                    key,  # type: ignore[arg-type]
                    algorithms=[ALGORITHM],
                    audience=audience,
                    # Time is checked below, against the injected clock.
                    options={"require": ["exp", "aud", "iss"], "verify_exp": False, "verify_iat": False},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as exc:
                raise Unauthenticated("The call token is not valid for this host.") from exc
            if float(payload["exp"]) + LEEWAY_SECONDS < self._clock():
                raise Unauthenticated("The call token has expired.")
            return CallClaims(
                issuer=str(payload["iss"]),
                audience=audience,
                verbs=frozenset(payload.get("verbs", ())),
                ended=frozenset(Incarnation.parse(one) for one in payload.get("ended", ())),
                expires_at=float(payload["exp"]),
                instance=str(payload.get("instance", "")),
            )
        raise Unauthenticated("The call token is signed by nobody this host knows.")
