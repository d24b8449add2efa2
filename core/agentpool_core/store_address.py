# SPDX-License-Identifier: Apache-2.0
"""Addresses of a Redis that Sentinel fails over.

    redis+sentinel://user:password@sentinel-0:26379,sentinel-1:26379/service/0?sentinel_password=word

`rediss+sentinel` asks for TLS, of the sentinels too. User and password are those of the Redis servers. The
port is 26379 and the database 0 unless given. Further parameters are options of the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

PORT = 26379
_SCHEMES = {"redis+sentinel": False, "rediss+sentinel": True}


@dataclass(frozen=True, slots=True, repr=False)
class SentinelAddress:
    """Where to ask for the present master, and how to enter it.

    Attributes:
        server_url: for the servers, with a host that stands for the present master; a secret.
        tls: whether all connections are encrypted.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    server_url: str
    tls: bool = False
    sentinel_username: str = ""
    sentinel_password: str = ""


def parse_sentinel(url: str) -> SentinelAddress | None:
    """Read such a URL; None for one of another scheme. Raises ValueError, which tells no secret."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        return None
    user, at, places = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the address names no service: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE")
    if database and not database.isdigit():
        raise ValueError("the database of the address is not a number")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    username, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    query = f"?{urlencode(options)}" if options else ""
    return SentinelAddress(
        sentinels=tuple(_place(place) for place in places.split(",")),
        service=unquote(service),
        server_url=f"redis://{user}{at}master.invalid/{database or 0}{query}",
        tls=_SCHEMES[parts.scheme],
        sentinel_username=username,
        sentinel_password=password,
    )


def _place(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError("a sentinel's address has no valid port") from exc
    if not host:
        raise ValueError("a sentinel's address has no host")
    return host, port or PORT
