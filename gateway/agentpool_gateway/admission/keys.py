# SPDX-License-Identifier: Apache-2.0
"""The public keys of an issuer, fetched rarely and kept when they cannot be fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import structlog

from agentpool_core.errors import Unauthenticated, Unavailable

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 10.0
"""At most one fetch in this time, however many tokens with unknown keys arrive."""
FETCH_SECONDS = 5.0
MAX_BYTES = 1024 * 1024
_FAMILY = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}

Fetch = Callable[[], Awaitable[bytes]]


def fetch_url(url: str) -> Fetch:
    """Reads a JWKS over HTTP."""

    async def fetch() -> bytes:
        async with httpx.AsyncClient(timeout=FETCH_SECONDS) as client, client.stream("GET", url) as answer:
            answer.raise_for_status()
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError("the key set is too large")
            return body

    return fetch


def fetch_file(path: Path) -> Fetch:
    """Reads a JWKS from a file."""

    async def fetch() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return fetch


class KeySource:
    """Keys of one issuer.

    A key that is not known leads to a fetch, at most every 10 s; a fetch that fails keeps the keys there are.

    Args:
        name: the issuer, for the log.
        fetch: gives the JWKS document.
        clock: seconds, monotonic.
    """

    def __init__(self, name: str, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str | None, tuple[str, Any]] = {}
        self._fetched_at: float | None = None
        self._failed = False
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None, algorithm: str) -> Any:
        """The key of a token's header.

        Raises Unauthenticated when the issuer has none such, Unavailable when it cannot be asked: the key may
        be a new one.
        """
        found = self._find(kid, algorithm)
        if found is None:
            async with self._lock:
                found = self._find(kid, algorithm)
                if found is None and self._due():
                    await self._refresh()
                    found = self._find(kid, algorithm)
        if found is not None:
            return found
        if self._failed:
            raise Unavailable("The issuer's keys cannot be fetched.", retry_after_seconds=REFRESH_SECONDS)
        raise Unauthenticated("The token is signed with a key that its issuer does not publish.")

    def _find(self, kid: str | None, algorithm: str) -> Any | None:
        if kid is None and len(self._keys) == 1:
            kid = next(iter(self._keys))
        family, key = self._keys.get(kid, ("", None))
        return key if family == _FAMILY[algorithm] else None

    def _due(self) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at >= REFRESH_SECONDS

    async def refresh(self) -> None:
        """Fetch now, whatever is known; a fetch that fails keeps the keys there are."""
        async with self._lock:
            await self._refresh()

    @property
    def known(self) -> bool:
        """Whether there are keys."""
        return bool(self._keys)

    async def _refresh(self) -> None:
        self._fetched_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await self._fetch()
            keys = {one.key_id: (str(one.key_type), one.key) for one in _parse(document)}
        except (httpx.HTTPError, OSError, TimeoutError, ValueError, jwt.PyJWTError) as exc:
            self._failed = True
            log.warning("issuer_keys_not_fetched", issuer=self._name, reason=type(exc).__name__)
            return
        self._keys, self._failed = keys, False
        log.info("issuer_keys_fetched", issuer=self._name, keys=len(keys))


def _parse(document: bytes) -> list[jwt.PyJWK]:
    try:
        return jwt.PyJWKSet.from_json(document.decode()).keys
    except (AttributeError, TypeError, KeyError) as exc:
        raise ValueError("not a JSON Web Key Set") from exc
