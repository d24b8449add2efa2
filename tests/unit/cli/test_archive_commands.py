# SPDX-License-Identifier: Apache-2.0
"""export and import: files that are whole or not there, and where an archive goes."""

from __future__ import annotations

import io
import stat
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from agentpool_cli.client import PoolClient
from agentpool_cli.commands.archive import progress, read_archive, summary, target, write_whole
from agentpool_cli.connection import Connection
from agentpool_core.archive import MEDIA_TYPE, Source, pack, unpack
from agentpool_core.errors import InvalidRequest, StateCorrupt, Unavailable
from agentpool_core.lifecycle import Tier

SOURCE = Source("default", "support", "acme", "shop", Tier.COLD, "agents:Support")
DATA = pack(SOURCE, datetime(2026, 1, 1, tzinfo=UTC), {"notes": b"hello"})
ARCHIVE = unpack(DATA, 1000)


def options(**given: object) -> Namespace:
    return Namespace(**{"tenant": None, "project": None, "tier": None, "replace": False, **given})


TARGETS = [
    pytest.param({}, {"tenant_id": "acme", "project_id": "shop", "replace": "false"}, id="as in the archive"),
    pytest.param(
        {"tenant": "b", "project": "c", "tier": "HOT", "replace": True},
        {"tenant_id": "b", "project_id": "c", "tier": "HOT", "replace": "true"},
        id="all as named",
    ),
]


@pytest.mark.parametrize(("given", "found"), TARGETS)
def test_an_archive_goes_where_the_options_say(given: dict[str, object], found: dict[str, str]) -> None:
    assert target(options(**given), ARCHIVE) == found


def test_a_file_is_written_whole_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "one.agentpool"
    file.write_bytes(b"before")
    file.chmod(0o644)
    write_whole(file, DATA)
    assert file.read_bytes() == DATA
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_whole(folder, DATA)
    with pytest.raises(InvalidRequest, match="cannot be written"):
        write_whole(tmp_path / "missing" / "file", DATA)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="missing cannot be read: No such file"):
        read_archive(str(tmp_path / "missing"))


def test_the_summary_says_whose_state_it_is() -> None:
    assert summary(ARCHIVE) == "tenant acme, project shop of default/support: 1 parts, 5 bytes"


def test_progress_is_for_terminals_only() -> None:
    stream = io.StringIO()
    progress("exporting", stream)(10)
    assert stream.getvalue() == ""


def client(answer: httpx.Response, seen: list[httpx.Request]) -> PoolClient:
    def answers(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return answer

    return PoolClient(Connection("http://gateway", "/api/v1/pool", 5.0), httpx.MockTransport(answers))


class Body(httpx.SyncByteStream):
    """A body in two parts, or one that breaks off after the first."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def __iter__(self) -> Iterator[bytes]:
        yield DATA[:10]
        if not self.whole:
            raise httpx.RemoteProtocolError("peer closed connection")
        yield DATA[10:]


def test_an_archive_is_fetched_in_parts() -> None:
    told: list[int] = []
    seen: list[httpx.Request] = []
    with client(httpx.Response(200, stream=Body(whole=True)), seen) as pool:
        assert pool.export("inst-1", told.append) == DATA
    assert told == [10, len(DATA)]
    assert seen[0].url.path == "/api/v1/pool/instances/inst-1/checkpoint"


def test_a_refused_export_is_told_with_its_code() -> None:
    problem = {"code": "StateCorrupt", "detail": "Damaged."}
    refusal = httpx.Response(502, json=problem, headers={"content-type": "application/problem+json"})
    with client(refusal, []) as pool, pytest.raises(StateCorrupt, match="Damaged"):
        pool.export("inst-1", lambda _: None)


def test_an_archive_that_breaks_off_is_not_taken_for_whole() -> None:
    with (
        client(httpx.Response(200, stream=Body(whole=False)), []) as pool,
        pytest.raises(Unavailable, match="broke"),
    ):
        pool.export("inst-1", lambda _: None)


def test_an_archive_is_sent_with_its_size_and_kind() -> None:
    told: list[int] = []
    seen: list[httpx.Request] = []
    with client(httpx.Response(201, json={"id": "inst-1"}), seen) as pool:
        assert pool.plant({"tenant_id": "a/b", "replace": "true"}, DATA, told.append) == {"id": "inst-1"}
    (request,) = seen
    assert (request.method, request.url.path) == ("PUT", "/api/v1/pool/checkpoints")
    assert dict(request.url.params) == {"tenant_id": "a/b", "replace": "true"}
    assert request.content == DATA
    assert (request.headers["content-type"], request.headers["content-length"]) == (
        MEDIA_TYPE,
        str(len(DATA)),
    )
    assert told == [len(DATA)]
