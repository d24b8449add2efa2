# SPDX-License-Identifier: Apache-2.0
"""Who calls: bearer tokens, verified locally against the keys of configured issuers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import jwt

from agentpool_core.errors import Unauthenticated, Unavailable
from agentpool_gateway.admission.cluster import AUTHENTICATED, ClusterIssuer
from agentpool_gateway.admission.keys import KeySource
from agentpool_gateway.settings import Issuer

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Asymmetric only: with a symmetric one whoever verifies could also sign."""
LEEWAY_SECONDS = 10
REMEMBERED = 10_000
"""Verified tokens kept until they expire, as digests; one takes about 300 bytes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller."""

    subject: str
    issuer: str
    expires_at: float
    """Seconds since 1970."""
    user: str = ""
    """Name in the cluster's RBAC: the subject of a ServiceAccount token, else `issuer#subject`."""
    groups: tuple[str, ...] = ()
    """Groups in the cluster's RBAC."""


class Authenticator(Protocol):
    """Tells who calls."""

    async def authenticate(self, authorization: str | None) -> Identity:
        """The caller of an `authorization` header; raises Unauthenticated."""


class Anonymous:
    """Everybody is the same caller: mode insecure."""

    _IDENTITY = Identity("anonymous", "", float("inf"))

    async def authenticate(self, authorization: str | None) -> Identity:
        """Never refuses."""
        return self._IDENTITY


class JwtAuthenticator:
    """Verifies JSON Web Tokens of the configured issuers.

    Args:
        sources: each issuer with where its keys come from.
        clock: seconds since 1970.
        cluster: the issuer of ServiceAccount tokens, if those are taken.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Issuer, KeySource]],
        clock: Callable[[], float],
        cluster: ClusterIssuer | None = None,
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._cluster = cluster
        self._known: dict[bytes, Identity] = {}

    async def authenticate(self, authorization: str | None) -> Identity:
        """The caller; Unauthenticated for no token, or one that does not verify."""
        if not authorization:
            raise Unauthenticated("The request carries no token.")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("The authorization header is not a bearer token.")
        digest = sha256(token.encode()).digest()
        identity = self._known.get(digest)
        now = self._clock()
        if identity is not None and identity.expires_at > now:
            return identity
        identity = await self._verify(token, now)
        if len(self._known) >= REMEMBERED:
            self._known = {key: one for key, one in self._known.items() if one.expires_at > now}
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
        self._known[digest] = identity
        return identity

    async def _verify(self, token: str, now: float) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
            claimed = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError as exc:
            raise Unauthenticated("The token is not a JSON Web Token.") from exc
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise Unauthenticated(f"The token's algorithm is not one of {', '.join(ALGORITHMS)}.")
        # The cluster first: nobody else's tokens may speak for its ServiceAccounts.
        if self._cluster is not None and claimed.get("iss") == self._cluster.issuer:
            key = await self._cluster.key(header.get("kid"), algorithm)
            claims, expires = _check(token, key, algorithm, self._cluster.issuer, self._cluster.audience, now)
            user, groups = self._cluster.user(claims)
            return Identity(user, self._cluster.issuer, expires, user, groups)
        for issuer, source in self._sources:
            if claimed.get("iss") == issuer.issuer:
                key = await source.key(header.get("kid"), algorithm)
                claims, expires = _check(token, key, algorithm, issuer.issuer, issuer.audience, now)
                subject = str(claims["sub"])
                # As API servers name the users of such issuers: none can pass for one of the cluster's own.
                return Identity(
                    subject, issuer.issuer, expires, f"{issuer.issuer}#{subject}", (AUTHENTICATED,)
                )
        if self._cluster is not None and not self._cluster.known:
            raise Unavailable("The cluster's issuer is not known yet.", retry_after_seconds=1.0)
        raise Unauthenticated("The token's issuer is not one of those configured.")


def _check(
    token: str, key: Any, algorithm: str, issuer: str, audience: str, now: float
) -> tuple[dict[str, Any], float]:
    """The claims of a token that verifies, and when it is no longer taken."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audience,
            issuer=issuer,
            # Times are checked below, against the injected clock.
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        expires, not_before = float(claims["exp"]), float(claims.get("nbf", 0))
    except (jwt.InvalidTokenError, TypeError, ValueError) as exc:
        raise Unauthenticated("The token does not verify: signature, issuer, audience or subject.") from exc
    if expires + LEEWAY_SECONDS <= now:
        raise Unauthenticated("The token has expired.")
    if not_before - LEEWAY_SECONDS > now:
        raise Unauthenticated("The token is not valid yet.")
    return claims, expires + LEEWAY_SECONDS
