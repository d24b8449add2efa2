# SPDX-License-Identifier: Apache-2.0
"""What comes in: envelopes, headers, settings, membership files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agentpool_core.errors import AgentPoolError, InvalidRequest, PayloadTooLarge
from agentpool_core.names import Incarnation
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.static import MembershipError, StaticMembership, parse_members
from agentpool_gateway.rest.parsing import parse_idempotency_key, parse_invoke, parse_limit, parse_timeout
from agentpool_gateway.settings import AuthMode, SettingsError, is_loopback, load_settings, split_address
from support.builders import effective_pool

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_the_input_passes_byte_for_byte(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    body = b'{"tenant_id":"t","project_id":"p","input":' + text + b"}"
    assert bytes(parse_invoke(body, len(text)).input) == text


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_a_reason(body: bytes) -> None:
    try:
        parse_invoke(body, 100)
    except InvalidRequest as exc:
        assert exc.message


def test_an_input_one_byte_over_the_limit_is_refused() -> None:
    body = b'{"tenant_id":"t","project_id":"p","input":"12345"}'
    assert parse_invoke(body, 7).tenant_id == "t"
    with pytest.raises(PayloadTooLarge):
        parse_invoke(body, 6)


@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "inf", "1h", "1,5"])
def test_a_time_out_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_timeout(value)


def test_a_time_out_is_in_seconds_and_may_be_left_out() -> None:
    assert (parse_timeout("2.5"), parse_timeout(None)) == (2.5, None)


@pytest.mark.parametrize("value", ["", "x" * 256, "k\u00e9y", "a\nb"])
def test_an_unusable_idempotency_key_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_idempotency_key(value)


@pytest.mark.parametrize("value", ["0", "1001", "-1", "ten", "", "99999999999999999999", "\u0661"])
def test_a_limit_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(AgentPoolError):
        parse_limit(value)


BASE = {"call_token_key_file": "/k", "membership_file": "/m", "auth": {"mode": "insecure"}}


def settings_file(directory: Path, **values: Any) -> list[str]:
    path = directory / "gateway.yaml"
    path.write_text(json.dumps({**BASE, **values}))
    return ["--settings", str(path)]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"http_listn": "x:1"}, "http_listn", id="a misspelt name"),
        pytest.param({"http_listen": "8000"}, "http_listen: must be host:port", id="a port alone"),
        pytest.param({"http_listen": "127.0.0.1:99999"}, "http_listen", id="a port that is none"),
        pytest.param({"default_pool": "support"}, "default_pool: must be namespace/name", id="half a pool"),
        pytest.param({"auth": {"mode": "jwt"}}, "auth.issuers", id="nobody could call"),
        pytest.param({"auth": {"mode": "none"}}, "auth.mode", id="an unknown mode"),
        pytest.param({"http_listen": "0.0.0.0:80"}, "allow_insecure_remote", id="insecure for all machines"),
        pytest.param({"grpc_listen": "[::]:80"}, "grpc_listen", id="insecure for all machines by IPv6"),
        pytest.param({"shutdown_grace_seconds": -1}, "shutdown_grace_seconds", id="a negative time"),
        pytest.param({"membership_file": None}, "membership_file", id="no membership"),
        pytest.param(
            {"auth": {"issuers": [{"issuer": "i"}]}}, "exactly one of jwks_url and jwks_file", id="no keys"
        ),
        pytest.param(
            {"auth": {"issuers": [{"issuer": "i", "jwks_url": "file:///k"}]}},
            "https://",
            id="keys by file URL",
        ),
        pytest.param(
            {"auth": {"mode": "insecure", "grants": [{"subject": "a", "verbs": ["fly"]}]}},
            "auth.grants.0.verbs.0",
            id="an unknown verb",
        ),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(settings_file(tmp_path, **values), {})
    assert says in str(caught.value)


def test_arguments_overrule_the_environment_and_that_the_file(tmp_path: Path) -> None:
    argv = settings_file(
        tmp_path, http_listen="127.0.0.1:1", grpc_listen="127.0.0.1:1", default_pool="a/file"
    )
    environ = {
        "AGENTPOOL_GATEWAY_HTTP_LISTEN": "127.0.0.1:2",
        "AGENTPOOL_GATEWAY_GRPC_LISTEN": "127.0.0.1:2",
        "AGENTPOOL_GATEWAY_AUTH_MODE": "insecure",
    }
    found = load_settings([*argv, "--grpc-listen", "127.0.0.1:3"], environ)
    assert (found.http_listen, found.grpc_listen, found.default_pool) == (
        "127.0.0.1:2",
        "127.0.0.1:3",
        "a/file",
    )
    assert found.auth.mode is AuthMode.INSECURE


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    for name in ("bad.yaml", "missing.yaml"):
        with pytest.raises(SettingsError, match=name):
            load_settings(["--settings", str(tmp_path / name)], {})


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("h", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_an_address_is_split() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("host:0") == ("host", 0)


def members(*hosts: tuple[str, str], name: str = "support") -> dict[str, Any]:
    return {
        "config": json.loads(effective_pool(name=name).model_dump_json()),
        "hosts": [{"pod": f"pod-{uid}", "pod_uid": uid, "address": address} for uid, address in hosts],
    }


def test_a_membership_file_lists_pools_and_hosts() -> None:
    found = parse_members(json.dumps({"pools": [members(("a", "127.0.0.1:1"), ("b", "127.0.0.1:2"))]}))
    pool = found[PoolName("default", "support")]
    assert [(host.pod_uid, host.address) for host in pool.hosts] == [
        ("a", "127.0.0.1:1"),
        ("b", "127.0.0.1:2"),
    ]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        pytest.param({"pool": []}, "pool", id="an unknown field"),
        pytest.param({"pools": [members(("a", "nowhere"))]}, "host:port", id="no address"),
        pytest.param({"pools": [members(), members()]}, "twice", id="a pool twice"),
        pytest.param({"pools": [members(("a", "x:1"), ("a", "x:2"))]}, "twice", id="a pod twice"),
    ],
)
def test_a_wrong_membership_file_is_refused(document: dict[str, Any], says: str) -> None:
    with pytest.raises(MembershipError, match=says):
        parse_members(json.dumps(document))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log lines go nowhere: writing one to a file would count as a blocking call."""
    with capture_logs():
        yield


@pytest.mark.usefixtures("quiet")
async def test_a_membership_file_is_read_again_only_when_it_changed_and_kept_when_it_is_wrong(
    tmp_path: Path,
) -> None:
    path = tmp_path / "members.json"
    await asyncio.to_thread(path.write_text, json.dumps({"pools": [members()]}))
    membership = StaticMembership(path)
    changes: list[int] = []
    membership.subscribe(lambda: changes.append(len(membership.pools)))
    assert not membership.ready
    await membership.load()
    await membership.load()
    assert (membership.ready, changes) == (True, [1])
    await asyncio.to_thread(path.write_text, "pools: 1")
    with pytest.raises(MembershipError):
        await membership.load()
    assert len(membership.pools) == 1
    text = json.dumps({"pools": [members(), members(name="other")]})
    await asyncio.to_thread(path.write_text, text)
    await membership.load()
    assert changes == [1, 2]


@pytest.mark.usefixtures("quiet")
async def test_a_later_life_of_the_pod_proves_the_end_of_an_earlier_one(tmp_path: Path) -> None:
    membership = StaticMembership(tmp_path / "none")
    first, second = (Incarnation.draw("pod", time, b"0000") for time in (1, 2))
    membership.announced(second)
    membership.announced(first)
    assert await membership.ended(first)
    assert not await membership.ended(second)
    assert not await membership.ended(Incarnation.draw("stranger", 1, b"0000"))
