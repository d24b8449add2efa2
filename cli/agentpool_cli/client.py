# SPDX-License-Identifier: Apache-2.0
"""A client of the gateway's REST interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from agentpool_cli.connection import Connection
from agentpool_core.archive import MEDIA_TYPE
from agentpool_core.errors import (
    AgentPoolError,
    DeadlineExceeded,
    OutcomeUnknown,
    Unauthenticated,
    Unavailable,
    from_code,
)

CONNECT_SECONDS = 5.0
GRACE_SECONDS = 5.0
"""Added to the request's own deadline, so that the gateway's answer about it still arrives."""
CHUNK_BYTES = 256 * 1024
PAGE_SIZE = 500
"""Instances asked for at once; the gateway allows up to 1000."""


Progress = Callable[[int], None]
"""Told how many bytes have gone over the wire so far."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One server-sent event: `accepted`, `chunk` or `done`, and its JSON data."""

    name: str
    data: Any


class PoolClient:
    """Calls one pool. Errors of the gateway are raised as the AgentPoolError that their code names.

    Use it as a context manager; it keeps its connection open in between.
    """

    def __init__(self, connection: Connection, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"X-Request-Timeout": f"{connection.timeout_seconds:g}"}
        if connection.token:
            headers["Authorization"] = f"Bearer {connection.token}"
        self._connection = connection
        self._http = httpx.Client(
            base_url=connection.url,
            headers=headers,
            timeout=httpx.Timeout(connection.timeout_seconds + GRACE_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
            # A proxy that the environment names has no business with a gateway on this machine.
            trust_env=not _is_loopback(connection.url),
        )

    def __enter__(self) -> PoolClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def invoke(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """One request, one answer."""
        answer: dict[str, Any] = self._call("POST", "/invoke", body, headers=_key_header(idempotency_key))
        return answer

    def stream(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Iterator[StreamEvent]:
        """One request, its events as they come; ends after `done`, raises at `error`."""
        headers = {"Accept": "text/event-stream", **_key_header(idempotency_key)}
        path = self._connection.pool_path + "/invoke"
        try:
            with self._http.stream("POST", path, json=body, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise self._refused(response)
                for event in read_events(response.iter_lines()):
                    if event.name == "error":
                        raise _from_problem(event.data)
                    yield event
                    if event.name == "done":
                        return
        except httpx.HTTPError as exc:
            raise self._transport_error(exc) from exc
        raise OutcomeUnknown("The stream ended before the answer was complete.")

    def create(self, tenant: str, project: str, tier: str | None = None) -> dict[str, Any]:
        """Make an instance resident without a request."""
        body = {"tenant_id": tenant, "project_id": project, **({"tier": tier} if tier else {})}
        instance: dict[str, Any] = self._call("POST", "/instances", body)
        return instance

    def instances(self, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """All instances that match, fetched page by page."""
        cursor = ""
        while True:
            params = {**filters, "limit": str(PAGE_SIZE), **({"cursor": cursor} if cursor else {})}
            page = self._call("GET", "/instances", params=params)
            yield from page["instances"]
            cursor = page.get("cursor") or ""
            if not cursor:
                return

    def instance(self, instance_id: str) -> dict[str, Any]:
        """One instance."""
        found: dict[str, Any] = self._call("GET", _instance_path(instance_id))
        return found

    def pause(self, instance_id: str) -> dict[str, Any]:
        """Pause an instance until it is resumed."""
        paused: dict[str, Any] = self._call("POST", _instance_path(instance_id) + "/pause")
        return paused

    def resume(self, instance_id: str) -> dict[str, Any]:
        """Make a paused instance ready again."""
        resumed: dict[str, Any] = self._call("POST", _instance_path(instance_id) + "/resume")
        return resumed

    def delete(self, instance_id: str) -> dict[str, Any]:
        """End an instance and erase its state."""
        ended: dict[str, Any] = self._call("DELETE", _instance_path(instance_id)) or {"id": instance_id}
        return ended

    def move(self, instance_id: str, tier: str) -> dict[str, Any]:
        """Give an instance another tier; AUTO leaves its tier to the pool."""
        moved: dict[str, Any] = self._call("PUT", _instance_path(instance_id) + "/tier", {"tier": tier})
        return moved

    def export(self, instance_id: str, progress: Progress) -> bytes:
        """The archive of an instance's saved state."""
        path = self._connection.pool_path + _instance_path(instance_id) + "/checkpoint"
        archive = bytearray()
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise self._refused(response)
                for part in response.iter_raw():
                    archive += part
                    progress(len(archive))
        except httpx.RemoteProtocolError as exc:
            raise Unavailable("The archive broke off before its end.", remedy="Export again.") from exc
        except httpx.HTTPError as exc:
            raise self._transport_error(exc) from exc
        return bytes(archive)

    def plant(self, target: Mapping[str, str], archive: bytes, progress: Progress) -> dict[str, Any]:
        """Make an instance from an archive; `target` are the parameters of the call."""
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(archive))}
        try:
            response = self._http.put(
                self._connection.pool_path + "/checkpoints",
                params=target,
                headers=headers,
                content=_told(archive, progress),
            )
        except httpx.HTTPError as exc:
            raise self._transport_error(exc) from exc
        if response.is_error:
            raise self._refused(response)
        instance: dict[str, Any] = _json(response)
        return instance

    def forget(self, tenant: str, seconds: float) -> dict[str, Any]:
        """Erase what can be erased of a tenant in so many seconds, and tell what is left."""
        path = "/tenants/" + quote(tenant, safe="")
        result: dict[str, Any] = self._call("DELETE", path, headers={"X-Request-Timeout": f"{seconds:g}"})
        return result

    def flags(self) -> list[dict[str, Any]]:
        """All feature flags of the pool."""
        found: list[dict[str, Any]] = self._call("GET", "/flags")["flags"]
        return found

    def set_flag(self, name: str, flag: Mapping[str, Any]) -> dict[str, Any]:
        """Set a whole flag."""
        found: dict[str, Any] = self._call("PUT", _flag_path(name), flag)
        return found

    def change_flag(self, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Change one thing of a flag."""
        found: dict[str, Any] = self._call("PATCH", _flag_path(name), change)
        return found

    def delete_flag(self, name: str) -> None:
        """Forget what was set."""
        self._call("DELETE", _flag_path(name))

    def stats(self) -> dict[str, Any]:
        """Statistics of the pool."""
        stats: dict[str, Any] = self._call("GET", "/stats")
        return stats

    def health(self) -> dict[str, Any]:
        """Health of the pool; also answered when it is not healthy."""
        try:
            response = self._http.get(self._connection.pool_path + "/health")
        except httpx.HTTPError as exc:
            raise self._transport_error(exc) from exc
        if _is_problem(response):
            raise self._refused(response)
        health: dict[str, Any] = _json(response)
        return health

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        try:
            response = self._http.request(
                method, self._connection.pool_path + path, json=body, params=params, headers=headers
            )
        except httpx.HTTPError as exc:
            raise self._transport_error(exc) from exc
        if response.is_error:
            raise self._refused(response)
        return _json(response) if response.content else None

    def _refused(self, response: httpx.Response) -> AgentPoolError:
        error = problem(response)
        if isinstance(error, Unauthenticated) and not self._connection.token:
            error.hint = "Set AGENTPOOL_TOKEN, or give --token-file or --as-service-account."
        return error

    def _transport_error(self, error: httpx.HTTPError) -> AgentPoolError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unavailable(
                f"Nothing answers at {self._connection.url}.",
                remedy="Start a pool with `agentpool dev pool.yaml`, or name the gateway with --url.",
            )
        if isinstance(error, httpx.TimeoutException):
            return DeadlineExceeded(f"No answer within {self._connection.timeout_seconds:g} s.")
        return OutcomeUnknown(f"The connection to {self._connection.url} broke: {error}.")


def problem(response: httpx.Response) -> AgentPoolError:
    """The error that a response describes, also when it does not come from a gateway of ours."""
    if _is_problem(response):
        return _from_problem(_json(response))
    error = AgentPoolError(
        f"The answer was {response.status_code} {response.reason_phrase}, not in the form a gateway gives.",
        remedy="Check that --url is the address of an AgentPool gateway.",
    )
    return error


def _from_problem(data: Mapping[str, Any]) -> AgentPoolError:
    return from_code(
        str(data.get("code", "")),
        str(data.get("detail") or data.get("title") or "The gateway refused the request."),
        remedy=data.get("remedy"),
        retry_after_seconds=data.get("retry_after_seconds"),
    )


def read_events(lines: Iterable[str]) -> Iterator[StreamEvent]:
    """The events in the lines of a text/event-stream; comments (pings) are skipped."""
    name, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield StreamEvent(name, msgspec.json.decode("\n".join(data)))
            name, data = "message", []
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _is_problem(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", "")).startswith("application/problem+json")


def _json(response: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError as exc:
        raise AgentPoolError(
            f"The answer of {response.url} is not JSON.",
            remedy="Check that --url is the address of an AgentPool gateway.",
        ) from exc


def _key_header(idempotency_key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": idempotency_key} if idempotency_key else {}


def _instance_path(instance_id: str) -> str:
    return "/instances/" + quote(instance_id, safe="")


def _flag_path(name: str) -> str:
    return "/flags/" + quote(name, safe="")


def _is_loopback(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "::1", "localhost")


def _told(archive: bytes, progress: Progress) -> Iterator[bytes]:
    for at in range(0, len(archive), CHUNK_BYTES):
        part = archive[at : at + CHUNK_BYTES]
        yield part
        progress(at + len(part))
