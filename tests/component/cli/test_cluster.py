# SPDX-License-Identifier: Apache-2.0
"""The way into a cluster by kubectl: a program of that name stands in, and notes what it was asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.repository import ROOT

KUBECTL = """#!{python}
import json, os, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
with open(folder + "/calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
words = [word for word in sys.argv[1:]]
if "port-forward" in words:
    print("Forwarding from 127.0.0.1:{port} -> 8000", flush=True)
    time.sleep(600)
answers = json.load(open(folder + "/answers"))
for part, (code, out, err) in answers.items():
    if part in " ".join(words):
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
sys.exit("unexpected: " + " ".join(words))
"""
SERVICES = {"items": [{"metadata": {"namespace": "system", "name": "ap-gateway"}}]}


@dataclass
class Gateway:
    """Answers every request with the same JSON and keeps what came in."""

    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=lambda: {"id": "inst-1", "state": "READY"})


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """Something that answers at the end of the port-forward."""
    made = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append((self.path, self.headers.get("authorization", "")))
            text = json.dumps(made.answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_DELETE = do_GET

        def log_message(self, format: str, *arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


class Machine:
    """A machine with that kubectl."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.answers: dict[str, tuple[int, str, str]] = {
            "get services": (0, json.dumps(SERVICES), ""),
            "config view": (0, "team-a", ""),
            "create token": (0, "the-token\n", ""),
        }
        program = directory / "kubectl"
        program.write_text(KUBECTL.replace("{python}", sys.executable).replace("{port}", str(port)))
        program.chmod(0o755)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`kubectl agentpool ...`, as kubectl starts it."""
        (self.directory / "answers").write_text(json.dumps(self.answers))
        start = "from agentpool_cli.main import main; import sys; sys.argv[0] = 'kubectl-agentpool'; "
        start += "sys.exit(main())"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AGENTPOOL_")}
        return subprocess.run(
            [sys.executable, "-c", start, *arguments],
            env={**inherited, "PATH": f"{self.directory}:{os.environ['PATH']}", **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def calls(self) -> list[list[str]]:
        """What kubectl was called with."""
        path = self.directory / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path, gateway: Gateway) -> Machine:
    """A machine with a kubectl that leads to the gateway."""
    return Machine(tmp_path, gateway.port)


GET = ("instances", "get", "inst-1", "--pool", "support")


def test_the_gateway_is_found_and_reached_by_a_port_forward_that_ends_with_the_command(
    machine: Machine, gateway: Gateway
) -> None:
    done = machine.run(*GET, "--context", "prod", "--as-service-account", "app")
    assert done.returncode == 0, done.stderr
    assert gateway.seen == [("/api/v1/namespaces/team-a/pools/support/instances/inst-1", "Bearer the-token")]
    assert all(call[0] == "--context=prod" for call in machine.calls)
    forward = next(call for call in machine.calls if "port-forward" in call)
    assert forward[1:] == [
        "--namespace", "system", "port-forward", "--address", "127.0.0.1", "service/ap-gateway", ":http"
    ]  # fmt: skip
    token = next(call for call in machine.calls if "token" in call)
    assert token[1:] == [
        "--namespace", "team-a", "create", "token", "app", "--audience=agentpool", "--duration=600s"
    ]  # fmt: skip
    left = [one for one in psutil.process_iter(["cmdline"]) if str(machine.directory) in str(one.info)]
    assert left == []


def test_a_url_and_a_token_of_the_environment_need_no_kubectl(machine: Machine, gateway: Gateway) -> None:
    url = f"http://127.0.0.1:{gateway.port}"
    done = machine.run(*GET, "-n", "b", AGENTPOOL_URL=url, AGENTPOOL_TOKEN="mine")
    assert done.returncode == 0, done.stderr
    assert gateway.seen[0][1] == "Bearer mine"
    assert machine.calls == []


REFUSED = [
    pytest.param(
        (1, "", 'Error from server (Forbidden): services is forbidden: User "u" cannot list'),
        "--gateway NAMESPACE/SERVICE",
        id="no right to look for it",
    ),
    pytest.param((0, '{"items": []}', ""), "Install the chart", id="there is none"),
    pytest.param(
        (1, "", "The connection to the server localhost:8080 was refused"), "/readyz", id="no cluster answers"
    ),
]


@pytest.mark.parametrize(("answer", "says"), REFUSED)
def test_a_gateway_that_cannot_be_found_is_an_error_with_a_remedy(
    machine: Machine, answer: tuple[int, str, str], says: str
) -> None:
    machine.answers["get services"] = answer
    done = machine.run("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_kubectl_the_remedy_names_the_other_ways(machine: Machine) -> None:
    done = machine.run("status", PATH="/nowhere")
    assert done.returncode == 1
    assert "AGENTPOOL_URL" in done.stderr


def test_doctor_reports_every_check_and_its_exit_code_tells(machine: Machine, gateway: Gateway) -> None:
    metadata = {"namespace": "team-a", "name": "support", "generation": 1}
    stalled = {"type": "Stalled", "status": "True", "reason": "ImageMissing", "message": "Push it."}
    ready = {"type": "Ready", "status": "False", "reason": "ImageMissing", "message": "Push it."}
    pool = {"metadata": metadata, "status": {"observedGeneration": 1, "conditions": [ready, stalled]}}
    machine.answers |= {
        "--raw /version": (0, '{"gitVersion": "v1.34.4"}', ""),
        "--raw /apis": (0, '{"resources": [{"name": "agentpools"}, {"name": "agentinstances"}]}', ""),
        "get deployments": (1, "", "Error from server (Forbidden): deployments.apps is forbidden"),
        "get pods": (0, '{"items": []}', ""),
        "get agentpools": (0, json.dumps({"items": [pool]}), ""),
        "can-i get": (0, "yes\n", ""),
        "can-i invoke": (1, "no\n", ""),
        "can-i pause": (0, "yes\n", ""),
        **{f"can-i {verb}": (1, "no\n", "") for verb in ("place", "terminate", "export", "import", "forget")},
        "can-i configure": (1, "no\n", ""),
    }
    done = machine.run("doctor", "-o", "json")
    assert done.returncode == 1, done.stderr
    found = {one["subject"]: one for one in json.loads(done.stdout)}
    levels = {subject: one["level"] for subject, one in found.items()}
    assert levels == {
        "cluster": "OK",
        "definitions": "OK",
        "workloads": "UNKNOWN",
        "pool team-a/support": "PROBLEM",
        "rights of kubectl's user": "PROBLEM",
        "audited rights of kubectl's user": "OK",
        "way to the gateway": "OK",
    }
    told = found["audited rights of kubectl's user"]["text"]
    refused = "place, terminate, export, import, forget, configure"
    assert told.startswith(f"May pause. May not {refused}, on agentpools in ")
    assert "Push it." in found["pool team-a/support"]["text"]
    assert gateway.seen == [("/readyz", "")]


@pytest.mark.parametrize("readable", [True, False])
def test_declared_instances_that_forget_leaves_are_named_where_they_can_be_read(
    machine: Machine, gateway: Gateway, readable: bool
) -> None:
    declared = {"id": "inst-1", "project_id": "shop", "declared_uid": "uid-1"}
    counts = {
        "erased": 3,
        "remaining": 0,
        "busy": 0,
        "declared_count": 1,
        "declared": [declared],
        "failed": [],
    }
    gateway.answer = {"tenant_id": "a/b", "complete": False, **counts}
    items = {"items": [{"metadata": {"namespace": "team-a", "name": "kim", "uid": "uid-1"}}]}
    machine.answers["get agentinstances"] = (
        (0, json.dumps(items), "") if readable else (1, "", "Error from server (Forbidden): no")
    )
    done = machine.run("forget", "--tenant", "a/b", "--yes", "--pool", "support")
    assert done.returncode == 1, done.stderr
    assert gateway.seen == [("/api/v1/namespaces/team-a/pools/support/tenants/a%2Fb", "")]
    assert ("kubectl delete agentinstance --namespace team-a kim" in done.stdout) is readable
    assert ("the AgentInstance with UID uid-1" in done.stdout) is not readable
