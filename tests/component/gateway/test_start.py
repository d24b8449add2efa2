# SPDX-License-Identifier: Apache-2.0
"""The process: what it refuses to start with, and where it gets keys from."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentpool_core.config import EffectivePool
from agentpool_proto.v1 import host_pb2
from support.callers import ISSUER, TokenIssuer, body
from support.fake_host import Context, FakeHost, done
from support.gateways import CallKeys, running_gateway


async def run(directory: Path, keys: CallKeys, **settings: Any) -> tuple[int, str]:
    """Exit code and standard error of a gateway that does not start."""
    (directory / "key.pem").write_bytes(keys.private)
    (directory / "members.yaml").write_text("pools: []")
    values = {
        "http_listen": "127.0.0.1:0",
        "grpc_listen": "127.0.0.1:0",
        "call_token_key_file": str(directory / "key.pem"),
        "membership_file": str(directory / "members.yaml"),
        "auth": {"mode": "insecure"},
        **settings,
    }
    (directory / "settings.yaml").write_text(yaml.safe_dump(values))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agentpool_gateway",
        "--settings",
        str(directory / "settings.yaml"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, text = await process.communicate()
    assert process.returncode is not None
    return process.returncode, text.decode()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"http_listen": "0.0.0.0:0"}, "allow_insecure_remote", id="insecure for every machine"),
        pytest.param({"auth": {}}, "auth.issuers", id="nobody could call"),
        pytest.param({"call_token_key_file": "/nowhere"}, "/nowhere", id="no key"),
        pytest.param({"call_token_key_file": __file__}, "agentpool-gateway:", id="a key that is none"),
    ],
)
async def test_it_does_not_start_with_wrong_settings(
    tmp_path: Path, keys: CallKeys, settings: dict[str, Any], says: str
) -> None:
    code, text = await run(tmp_path, keys, **settings)
    assert (code, says in text, "Traceback" in text) == (2, True, False)


@pytest.mark.parametrize("name", ["http_listen", "grpc_listen"])
async def test_a_taken_port_is_said(tmp_path: Path, keys: CallKeys, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = await run(tmp_path, keys, **{name: address})
    assert (code, address in text, "Traceback" in text) == (1, True, False)


async def test_an_issuers_keys_are_fetched_over_http(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    issuer, host = TokenIssuer(), await start_host()
    fetched = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal fetched
        fetched += 1
        await reader.readuntil(b"\r\n\r\n")
        text = json.dumps(issuer.jwks()).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(text) + text)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    auth = {
        "issuers": [{"issuer": ISSUER, "jwks_url": f"http://127.0.0.1:{port}/keys"}],
        "grants": [{"subject": "app", "verbs": ["invoke"]}],
    }
    async with server, running_gateway(tmp_path, keys, [(pool, [host])], auth=auth) as gateway:
        await gateway.sees(1)
        client = gateway.client({"authorization": f"Bearer {issuer.token()}"})
        answers = await asyncio.gather(
            *(client.post("/api/v1/pool/invoke", json=body(f"p-{n}")) for n in range(10))
        )
        assert (await client.get("/api/v1/pool/stats")).status_code == 403
    assert {answer.status_code for answer in answers} == {200}
    assert fetched == 1


async def test_without_authentication_foreign_web_pages_are_refused(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        foreign = await client.post(
            "/api/v1/pool/invoke", json=body(), headers={"origin": "https://evil.test"}
        )
        local = await client.post("/api/v1/pool/invoke", json=body(), headers={"origin": gateway.url})
    assert (foreign.status_code, foreign.json()["code"], local.status_code) == (403, "PermissionDenied", 200)
    assert len(host.invoked) == 1


async def test_more_requests_than_it_may_hold_are_refused_at_once(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    begun, over = asyncio.Event(), asyncio.Event()

    async def wait(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Any:
        yield host.accept(request)
        begun.set()
        await over.wait()
        yield done(b"1")

    host.script = wait
    async with running_gateway(tmp_path, keys, [(pool, [host])], max_in_flight=1) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        first = asyncio.create_task(client.post("/api/v1/pool/invoke", json=body()))
        await asyncio.wait_for(begun.wait(), 5)
        second = await client.post("/api/v1/pool/invoke", json=body())
        over.set()
        assert (await first).status_code == 200
        assert (await client.post("/api/v1/pool/invoke", json=body())).status_code == 200
    assert (second.status_code, second.json()["code"]) == (503, "Overloaded")
    assert second.headers["retry-after"] == "1"
