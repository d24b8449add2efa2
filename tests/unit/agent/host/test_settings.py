# SPDX-License-Identifier: Apache-2.0
"""How a host is told what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentpool_agent.host.settings import Role, read_settings
from agentpool_core.lifecycle import Tier
from agentpool_rpc.tokens import generate_keypair

KEYS = [generate_keypair()[1] for _ in range(2)]
ENVIRON = {"AGENTPOOL_PUBLIC_KEYS": b"".join(KEYS).decode(), "AGENTPOOL_RUN_DIR": "/run/agentpool"}


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    settings = read_settings(
        ["--pod", "flag"], {**ENVIRON, "AGENTPOOL_POD": "env", "AGENTPOOL_POD_UID": "uid"}
    )
    assert (settings.pod, settings.pod_uid, settings.drain_seconds) == ("flag", "uid", 100.0)


@pytest.mark.parametrize(
    ("argv", "tiers"),
    [
        pytest.param([], (Tier.WARM,), id="a shared host takes WARM"),
        pytest.param(["--role", "Generic"], (Tier.HOT, Tier.COLD), id="a generic one HOT and COLD"),
        pytest.param(["--tiers", "HOT,WARM, COLD"], tuple(Tier), id="unless told otherwise"),
    ],
)
def test_the_role_gives_the_tiers(argv: list[str], tiers: tuple[Tier, ...]) -> None:
    settings = read_settings(argv, ENVIRON)
    assert settings.tiers == tiers
    assert settings.role is (Role.GENERIC if "Generic" in argv else Role.SHARED)


def test_capabilities_come_with_commas_and_once_each() -> None:
    environ = {**ENVIRON, "AGENTPOOL_CAPABILITIES": "gpu, ssd,gpu,"}
    assert read_settings([], environ).capabilities == ("gpu", "ssd")
    assert read_settings([], ENVIRON).capabilities == ()


def test_several_public_keys_come_in_one_text_or_in_files(tmp_path: Path) -> None:
    assert read_settings([], ENVIRON).public_keys == tuple(KEYS)
    file = tmp_path / "key"
    file.write_bytes(KEYS[1])
    assert read_settings(["--public-key-file", str(file)], ENVIRON).public_keys == (KEYS[1],)


def test_the_url_of_the_store_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://:secret@store:6379\n")
    settings = read_settings(["--redis-url-file", str(file)], ENVIRON)
    assert settings.redis_url == "redis://:secret@store:6379"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("argv", "missing", "named"),
    [
        pytest.param([], "AGENTPOOL_PUBLIC_KEYS", "public key", id="no key"),
        pytest.param([], "AGENTPOOL_RUN_DIR", "run directory", id="no run directory"),
        pytest.param(["--tiers", "LUKEWARM"], "", "LUKEWARM", id="an unknown tier"),
        pytest.param(["--capabilities", "a gpu"], "", "names no capability", id="a capability with a space"),
        pytest.param(
            ["--capabilities", ",".join(f"c{n}" for n in range(33))], "", "33", id="too many capabilities"
        ),
    ],
)
def test_what_is_wrong_is_named(argv: list[str], missing: str, named: str) -> None:
    environ = {key: value for key, value in ENVIRON.items() if key != missing}
    with pytest.raises(ValueError, match=named):
        read_settings(argv, environ)
