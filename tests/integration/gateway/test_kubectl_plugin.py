# SPDX-License-Identifier: Apache-2.0
"""`kubectl agentpool` with the real kubectl and a real API server, without nodes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from agentpool_cli.cluster.gateway import account_token, current_namespace
from agentpool_cli.cluster.kubectl import Kubectl
from agentpool_core.errors import AgentPoolError, NotFound
from support.apiserver import ApiServer, programs
from support.builders import manifest
from support.repository import ROOT

TEAM = "team-plugin"


@pytest.fixture(scope="module")
def kubectl(api: ApiServer) -> Kubectl:
    """The kubectl that was built with the API server."""
    folder = programs()
    assert folder is not None
    answer = api.create("/api/v1/namespaces", {"metadata": {"name": TEAM}})
    assert answer.status_code in (201, 409)
    return Kubectl((f"--kubeconfig={api.kubeconfig}",), str(folder / "kubectl"))


def plugin(
    kubectl: Kubectl, directory: Path, api: ApiServer, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`kubectl agentpool ...`: kubectl finds the plugin on PATH."""
    program = directory / "kubectl-agentpool"
    start = (
        f"import sys; sys.argv[0] = {str(program)!r}; from agentpool_cli.main import main; sys.exit(main())"
    )
    program.write_text(f"#!{sys.executable}\n{start}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{directory}:{Path(kubectl.program).parent}:{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AGENTPOOL_")}
    return subprocess.run(
        [kubectl.program, "agentpool", *arguments],
        env={**inherited, "PATH": path, "KUBECONFIG": str(api.kubeconfig)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_token_is_for_the_gateway_and_short_lived(kubectl: Kubectl, api: ApiServer) -> None:
    api.create(f"/api/v1/namespaces/{TEAM}/serviceaccounts", {"metadata": {"name": "app"}})
    claims = jwt.decode(account_token(kubectl, f"{TEAM}/app", None), options={"verify_signature": False})
    assert claims["aud"] == ["agentpool"]
    assert claims["sub"] == f"system:serviceaccount:{TEAM}:app"
    assert claims["exp"] - claims["iat"] == 600
    with pytest.raises(NotFound):
        account_token(kubectl, "nobody", TEAM)
    assert current_namespace(kubectl) == "default"


def test_a_context_that_does_not_exist_is_named(kubectl: Kubectl) -> None:
    wrong = Kubectl((*kubectl.flags, "--context=missing"), kubectl.program)
    with pytest.raises(AgentPoolError) as refused:
        wrong.items("pods")
    assert "missing" in refused.value.message
    assert "--context" in refused.value.hint


def test_doctor_finds_what_an_empty_cluster_lacks(kubectl: Kubectl, api: ApiServer, tmp_path: Path) -> None:
    pools = f"/apis/agentpool.dev/v1alpha1/namespaces/{TEAM}/agentpools"
    api.create(pools, manifest() | {"metadata": {"name": "waiting"}})
    try:
        done = plugin(kubectl, tmp_path, api, "doctor", "-n", TEAM, "-o", "json")
    finally:
        api.client.delete(f"{pools}/waiting")
    assert (done.returncode, done.stderr) == (1, "")
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    assert {subject: one["level"] for subject, one in found.items()} == {
        "cluster": "OK",
        "definitions": "OK",
        "operator": "PROBLEM",
        "gateway": "PROBLEM",
        "redis": "OK",
        f"pool {TEAM}/waiting": "PROBLEM",
        "rights of kubectl's user": "OK",
        "audited rights of kubectl's user": "OK",
        "way to the gateway": "UNKNOWN",
    }
    assert "not looked at" in found[f"pool {TEAM}/waiting"]["text"]


def test_the_rights_of_an_application_are_looked_up_for_it(
    kubectl: Kubectl, api: ApiServer, tmp_path: Path
) -> None:
    options = ("-n", TEAM, "--as-service-account", "app", "-o", "json")
    done = plugin(kubectl, tmp_path, api, "doctor", *options)
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    one = found[f"rights of system:serviceaccount:{TEAM}:app"]
    assert (one["level"], one["text"]) == (
        "PROBLEM",
        f"No right to get, invoke on agentpools in {TEAM}.",
    )


def test_errors_of_arguments_are_kubectls(kubectl: Kubectl, api: ApiServer, tmp_path: Path) -> None:
    done = plugin(kubectl, tmp_path, api, "status", "--colour")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: unknown flag: --colour\nSee 'kubectl agentpool --help' for usage.\n"
    )
