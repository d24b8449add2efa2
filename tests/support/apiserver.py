# SPDX-License-Identifier: Apache-2.0
"""A real kube-apiserver with its etcd, on loopback ports and in a temporary folder: no node, no controllers.

The programs are those that `make cluster-up` builds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tools.devcluster.build import newest
from tools.devcluster.places import Places
from tools.ports import free_port

START_SECONDS = 90
TOKEN = "administrator"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "Metadata"},
    ],
}
"""Writes, Leases apart."""
KEY = ("openssl", "genrsa", "-traditional", "-out")


def programs() -> Path | None:
    """The directory with etcd, kube-apiserver, kubectl and helm; None before `make cluster-up` built them."""
    return newest(Places())


@dataclass(frozen=True)
class ApiServer:
    """A running API server.

    Attributes:
        url: where it answers.
        kubeconfig: file for kubectl, helm and clients; its user may do everything.
        client: HTTP client with the same rights.
        audit: where it writes down each write that it was asked for.
        outage: ends the server for the time of a block; etcd and with it every object stay.
    """

    url: str
    kubeconfig: Path
    client: httpx.Client
    audit: Path
    outage: Callable[[], AbstractContextManager[None]]

    def writes(self, agent: str) -> list[str]:
        """The writes of a user agent that were carried out, in order: `verb resource[/subresource] name`."""
        found = []
        for line in self.audit.read_text().splitlines():
            event = json.loads(line)
            to, code = event.get("objectRef") or {}, (event.get("responseStatus") or {}).get("code", 0)
            if str(event.get("userAgent", "")).startswith(agent) and code < 400:
                place = "/".join(part for part in (to.get("resource"), to.get("subresource")) if part)
                found.append(f"{event['verb']} {place} {to.get('name', '')}".strip())
        return found

    def create(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """POST one object to a collection, with unknown fields refused; the answer as it came."""
        return self.client.post(path, json=body, params={"fieldValidation": "Strict"})

    def apply(self, path: str, body: dict[str, Any], *, manager: str = "test") -> httpx.Response:
        """Apply one object on the server side, by force; the answer as it came."""
        return self.client.patch(
            path,
            content=yaml.safe_dump(body),
            headers={"content-type": "application/apply-patch+yaml"},
            params={"fieldManager": manager, "force": "true"},
        )


@contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, process_group=0)
    try:
        yield process
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _etcd_command(bin_: Path, folder: Path, client: str, peer: str) -> list[str]:
    return [
        *(str(bin_ / "etcd"), "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"default={peer}"),
    ]


def _server_command(bin_: Path, folder: Path, etcd: str, port: int) -> list[str]:
    issuer = "https://kubernetes.default.svc.cluster.local"
    return [
        *(str(bin_ / "kube-apiserver"), "--bind-address", "127.0.0.1", "--secure-port", str(port)),
        *("--etcd-servers", etcd, "--cert-dir", str(folder), "--token-auth-file", str(folder / "tokens")),
        *("--service-account-issuer", issuer, "--service-account-key-file", str(folder / "accounts.key")),
        *("--service-account-signing-key-file", str(folder / "accounts.key")),
        *("--service-cluster-ip-range", "10.97.0.0/16", "--authorization-mode", "RBAC"),
        *("--audit-policy-file", str(folder / "audit.yaml"), "--audit-log-path", str(folder / "audit.log")),
        # Nothing makes the ServiceAccounts that this plugin would wait for.
        *("--disable-admission-plugins", "ServiceAccount", "--enable-priority-and-fairness=false"),
    ]


def _wait(server: subprocess.Popen[bytes], url: str, folder: Path) -> httpx.Client:
    """A client of the server once it is ready; raises TimeoutError with its log."""
    deadline = time.monotonic() + START_SECONDS
    headers = {"authorization": f"Bearer {TOKEN}"}
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.HTTPError, OSError):
            trust = ssl.create_default_context(cafile=str(folder / "apiserver.crt"))
            client = httpx.Client(base_url=url, verify=trust, headers=headers, timeout=30, trust_env=False)
            if client.get("/readyz").is_success and client.get("/api/v1/namespaces/default").is_success:
                return client
            client.close()
        time.sleep(0.1)
    raise TimeoutError((folder / "kube-apiserver.log").read_text(errors="replace")[-4000:])


def _kubeconfig(url: str, folder: Path) -> Path:
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": url, "certificate-authority": str(folder / "apiserver.crt")},
            }
        ],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """A server that ends with the block. Raises FileNotFoundError when its programs are not built."""
    bin_ = programs()
    if bin_ is None:
        raise FileNotFoundError("kube-apiserver is not built; `make cluster-up` builds it")
    folder = Path(tempfile.mkdtemp(prefix="ap-api-"))
    (folder / "tokens").write_text(f'{TOKEN},administrator,administrator,"system:masters"\n')
    (folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
    (folder / "audit.log").touch()
    client_port, peer_port, port = free_port(), free_port(), free_port()
    etcd, peer, url = (
        f"http://127.0.0.1:{client_port}",
        f"http://127.0.0.1:{peer_port}",
        f"https://127.0.0.1:{port}",
    )
    try:
        subprocess.run([*KEY, str(folder / "accounts.key"), "2048"], check=True, capture_output=True)
        with ExitStack() as stack:
            stack.enter_context(_process(_etcd_command(bin_, folder, etcd, peer), folder / "etcd.log"))
            command = _server_command(bin_, folder, etcd, port)
            first = stack.enter_context(ExitStack())
            server = first.enter_context(_process(command, folder / "kube-apiserver.log"))
            client = stack.enter_context(closing(_wait(server, url, folder)))

            @contextmanager
            def outage() -> Iterator[None]:
                first.close()
                yield
                again = stack.enter_context(_process(command, folder / "kube-apiserver-again.log"))
                first.callback(_kill, again)
                _wait(again, url, folder).close()

            yield ApiServer(url, _kubeconfig(url, folder), client, folder / "audit.log", outage)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
