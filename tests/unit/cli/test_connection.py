# SPDX-License-Identifier: Apache-2.0
"""Which gateway, pool and token a command uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agentpool_cli.arguments import build_parser
from agentpool_cli.connection import Connection, connection_from, kubectl_flags, read_token, uses_cluster
from agentpool_core.errors import InvalidRequest


def connection(*argv: str, environ: Mapping[str, str] | None = None) -> Connection:
    return connection_from(build_parser("agentpool").parse_args(["status", *argv]), environ or {})


def test_the_option_wins_over_the_environment_and_this_over_the_default() -> None:
    environ = {"AGENTPOOL_URL": "http://gateway:80/"}
    assert connection("--url", "https://other", environ=environ).url == "https://other"
    assert connection(environ=environ).url == "http://gateway:80"
    assert connection().url == "http://127.0.0.1:8000"


PATHS = [
    pytest.param([], "/api/v1/pool", id="no pool named: the gateway's default pool"),
    pytest.param(["--pool", "support"], "/api/v1/namespaces/default/pools/support", id="a pool"),
    pytest.param(
        ["-n", "team", "--pool", "support"],
        "/api/v1/namespaces/team/pools/support",
        id="a pool in a namespace",
    ),
    pytest.param(
        ["--pool", "a/../b"],
        "/api/v1/namespaces/default/pools/a%2F..%2Fb",
        id="a name cannot leave its place",
    ),
]


@pytest.mark.parametrize(("argv", "path"), PATHS)
def test_the_path_names_the_pool(argv: list[str], path: str) -> None:
    assert connection(*argv).pool_path == path


def test_a_namespace_without_a_pool_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="names no pool"):
        connection("-n", "team")


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert read_token(None, {"AGENTPOOL_TOKEN": "from-env"}) == "from-env"
    assert read_token(str(file), {"AGENTPOOL_TOKEN": "from-env"}) == "from-file"
    assert read_token(None, {"AGENTPOOL_TOKEN_FILE": str(file)}) == "from-file"
    assert read_token(None, {}) == ""


def test_an_empty_or_missing_token_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, cause in (("empty", "is empty"), ("missing", "cannot be read")):
        with pytest.raises(InvalidRequest, match=cause):
            read_token(str(tmp_path / name), {})


CLUSTERS = [
    pytest.param("agentpool", [], {}, False, id="by itself it calls this machine"),
    pytest.param("kubectl agentpool", [], {}, True, id="as a plugin it calls kubectl's cluster"),
    pytest.param("agentpool", ["--context", "c"], {}, True, id="a context means a cluster"),
    pytest.param("agentpool", ["--gateway", "a/b"], {}, True, id="so does the name of a gateway"),
    pytest.param("kubectl agentpool", ["--url", "http://g"], {}, False, id="a URL wins"),
    pytest.param(
        "kubectl agentpool", [], {"AGENTPOOL_URL": "http://g"}, False, id="a URL of the environment wins"
    ),
]


@pytest.mark.parametrize(("program", "argv", "environ", "expected"), CLUSTERS)
def test_when_the_gateway_is_looked_for_in_a_cluster(
    program: str, argv: list[str], environ: dict[str, str], expected: bool
) -> None:
    options = build_parser(program).parse_args(["status", *argv])
    assert uses_cluster(options, environ) is expected


def test_a_choice_of_cluster_is_handed_to_kubectl() -> None:
    argv = ["status", "--context", "c", "--kubeconfig", "/k"]
    options = build_parser("agentpool").parse_args(argv)
    assert kubectl_flags(options) == ("--context=c", "--kubeconfig=/k")


def test_a_token_is_not_shown_by_accident() -> None:
    assert "hush" not in repr(connection(environ={"AGENTPOOL_TOKEN": "hush"}))
