# SPDX-License-Identifier: Apache-2.0
"""A running cluster with an administrator's rights: its API as objects, and kubectl as users type it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from support.repository import ROOT
from tools.devcluster.environment import directories_of, path_of, variables_of

Object = dict[str, Any]
T = TypeVar("T")

CALL_SECONDS = 60
START_SECONDS = 20
POLL_SECONDS = 0.1
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_OURS = "/apis/agentpool.dev/v1alpha1"
_ROOTS = {
    "agentpools": _OURS,
    "agentinstances": _OURS,
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "clusterroles": _RBAC,
    "clusterrolebindings": _RBAC,
    "roles": _RBAC,
    "rolebindings": _RBAC,
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
}
"""Where resources are that are not in the core group."""


class NoCluster(Exception):
    """The tests need a cluster and there is none; the text says what to do."""


def cluster_environment() -> dict[str, str]:
    """This process's environment with what `.devcluster/env` exports; what is set already wins.

    Raises NoCluster when the file is not there.
    """
    path = path_of(ROOT)
    if not path.exists():
        raise NoCluster(f"{path} is not there: these tests need a cluster. Run `make cluster-up`.")
    text = path.read_text()
    search = ":".join([*directories_of(text), os.environ["PATH"]])
    return {
        **variables_of(text),
        **os.environ,
        "KUBECONFIG": variables_of(text)["KUBECONFIG"],
        "PATH": search,
    }


def path(plural: str, namespace: str = "", name: str = "") -> str:
    """The path of a resource at the API server."""
    parts = [_ROOTS.get(plural, "/api/v1"), *(("namespaces", namespace) if namespace else ()), plural]
    return "/".join([*parts, *((name,) if name else ())])


@dataclass(frozen=True)
class Kubernetes:
    """A cluster.

    Attributes:
        api: HTTP client of the API server.
        environ: of programs that speak with it.
    """

    api: httpx.Client
    environ: Mapping[str, str]

    def run(self, *words: str, stdin: str | None = None, seconds: float = CALL_SECONDS) -> str:
        """Run a program that must succeed; its output."""
        done = self.attempt(*words, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def attempt(
        self, *words: str, stdin: str | None = None, seconds: float = CALL_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, good or bad."""
        return subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=dict(self.environ),
            cwd=ROOT,
            check=False,
        )

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """kubectl, which must succeed."""
        return self.run("kubectl", *words, stdin=stdin)

    def python(self, namespace: str, pod: str, container: str, code: str) -> str:
        """What a Python program prints that runs in a container."""
        return self.kubectl("exec", "-n", namespace, pod, "-c", container, "--", "python", "-c", code).strip()

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """An object; None when it is not there."""
        answer = self.api.get(path(plural, namespace, name))
        if answer.status_code == 404:
            return None
        return _object(answer)

    def list(self, plural: str, namespace: str = "", selector: str = "") -> list[Object]:
        """All objects of a resource."""
        found: list[Object] = _object(
            self.api.get(path(plural, namespace), params={"labelSelector": selector})
        )["items"]
        return found

    def create(self, plural: str, body: Object) -> Object:
        """Make an object."""
        return _object(self.api.post(path(plural, body["metadata"].get("namespace", "")), json=body))

    def apply(self, plural: str, body: Object) -> Object:
        """Apply an object on the server's side."""
        metadata = body["metadata"]
        return _object(
            self.api.patch(
                path(plural, metadata.get("namespace", ""), metadata["name"]),
                content=yaml.safe_dump(body),
                headers={"content-type": "application/apply-patch+yaml"},
                params={"fieldManager": "e2e", "force": "true"},
            )
        )

    def merge(self, plural: str, namespace: str, name: str, change: Object) -> Object:
        """Change an object."""
        return _object(
            self.api.patch(
                path(plural, namespace, name),
                json=change,
                headers={"content-type": "application/merge-patch+json"},
            )
        )

    def delete(self, plural: str, namespace: str, name: str, grace: int | None = None) -> None:
        """Begin to delete an object; one that is gone is fine. `grace`: seconds to end, 0: now."""
        params = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        answer = self.api.delete(path(plural, namespace, name), params=params)
        assert answer.is_success or answer.status_code == 404, answer.text

    def token(self, namespace: str, account: str, audience: str) -> str:
        """A token of a ServiceAccount."""
        body = {"spec": {"audiences": [audience], "expirationSeconds": 3600}}
        answer = self.api.post(path("serviceaccounts", namespace, account) + "/token", json=body)
        return str(_object(answer)["status"]["token"])


def _object(answer: httpx.Response) -> Object:
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
    found: Object = answer.json()
    return found


@contextmanager
def connected() -> Iterator[Kubernetes]:
    """The cluster of `.devcluster/env`, through a `kubectl proxy` of our own. Raises NoCluster."""
    environ = cluster_environment()
    with tempfile.TemporaryDirectory(prefix="ap-e2e-") as folder:
        socket = Path(folder) / "api.sock"
        command = ["kubectl", "proxy", "--unix-socket", str(socket)]
        proxy = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ, text=True
        )
        transport = httpx.HTTPTransport(uds=str(socket))
        client = httpx.Client(base_url="http://localhost", transport=transport, timeout=CALL_SECONDS)
        try:
            _wait_for_the_api(client, socket)
            yield Kubernetes(client, environ)
        finally:
            client.close()
            proxy.terminate()
            proxy.communicate(timeout=START_SECONDS)


def _wait_for_the_api(client: httpx.Client, socket: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    says = "kubectl proxy did not start"
    while time.monotonic() < deadline:
        if socket.exists():
            try:
                answer = client.get("/readyz", timeout=2)
            except httpx.HTTPError as exc:
                says = str(exc)
            else:
                if answer.is_success:
                    return
                says = answer.text
        time.sleep(POLL_SECONDS)
    raise NoCluster(f"the cluster does not answer ({says[:200]}). Run `make cluster-up`.")


def until(found: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """What `found` returns once it is neither None nor False; fails with `what` when that takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)


def condition(body: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """A condition of an object; empty while it has none."""
    conditions = ((body or {}).get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def pod_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is Ready and stays."""
    return condition(pod, "Ready").get("status") == "True" and "deletionTimestamp" not in pod["metadata"]
