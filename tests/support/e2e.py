# SPDX-License-Identifier: Apache-2.0
"""The deployed release as its users have it: pools made by manifests, requests with ServiceAccount tokens."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from agentpool_core.cluster import (
    API_VERSION,
    AUDIENCE,
    LABEL_INSTANCE,
    LABEL_POOL_UID,
    LABEL_ROLE,
    ROLE_GENERIC,
    ROLE_WARM,
)
from support.kubernetes import Kubernetes, Object, condition, pod_ready, until
from tools.devcluster.places import Places

RELEASE = "agentpool"
SYSTEM = "agentpool-system"
LIBRARIAN = "agentpool_agent.agents.librarian:Librarian"
ECHO = "agentpool_agent.agents.echo:Echo"
TENANT = "acme"
REQUEST_SECONDS = 40
READY_SECONDS = 90
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "agentpool.test/purpose": "e2e"}
ALL_VERBS = ("invoke", "get", "pause", "terminate", "place")
QUOTA = {"memory": "64Mi", "cpu": "100m", "concurrentRequests": 10, "requestsPerMinute": 60000}
"""Small, so that many pods fit onto one node; the rate is of no concern here."""

_numbers = itertools.count(1)


def manifest(
    namespace: str,
    name: str,
    *,
    entrypoint: str = LIBRARIAN,
    warm: int = 1,
    places: int = 20,
    waiting: int = 0,
    **more: Any,
) -> Object:
    """A small pool: so many shared pods with so many places each, and so many waiting pods."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "agent": {"entrypoint": entrypoint, **more.pop("agent", {})},
            "tiers": {
                "hot": {"quota": QUOTA},
                "warm": {"replicas": warm, "instancesPerReplica": places, "quota": QUOTA},
                "cold": {"quota": QUOTA},
            },
            "warmup": {"enabled": waiting > 0, "count": waiting},
            **more,
        },
    }


def declaration(namespace: str, name: str, pool: str, **spec: Any) -> Object:
    """An AgentInstance for project `name` of the usual tenant."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentInstance",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"pool": pool, "tenant": TENANT, "project": name, **spec},
    }


@dataclass
class Pool:
    """A pool and one who may do everything with it.

    Attributes:
        client: sends the token of a ServiceAccount with all verbs on the pool.
    """

    kube: Kubernetes
    namespace: str
    name: str
    client: httpx.Client

    @property
    def path(self) -> str:
        """Of the pool at the gateway."""
        return f"/api/v1/namespaces/{self.namespace}/pools/{self.name}"

    @property
    def body(self) -> Object:
        """The AgentPool as it is now."""
        found = self.kube.get("agentpools", self.namespace, self.name)
        assert found is not None
        return found

    def ready(self, seconds: float = READY_SECONDS, waiting: int | None = None) -> None:
        """Wait until it is Ready as it is written now, and so many pods wait; all that are to when unset."""

        def is_ready() -> bool:
            body = self.body
            generation, status = body["metadata"]["generation"], body.get("status") or {}
            generic = status.get("generic") or {}
            return (
                status.get("observedGeneration") == generation
                and condition(body, "Ready").get("status") == "True"
                and generic.get("ready", 0) >= (generic.get("wanted", 0) if waiting is None else waiting)
            )

        until(is_ready, f"pool {self.namespace}/{self.name} is ready: {self.explain}", seconds)

    @property
    def explain(self) -> str:
        """Its conditions, for the message of a failure."""
        lines = self.kube.attempt("kubectl", "get", "ap,ai,pods", "-n", self.namespace).stdout
        return json.dumps(self.body.get("status", {}).get("conditions")) + "\n" + lines

    def change(self, **spec: Any) -> None:
        """Change its spec."""
        self.kube.merge("agentpools", self.namespace, self.name, {"spec": spec})

    def pods(self, role: str = "") -> list[Object]:
        """Its pods, those that end included."""
        uid = self.body["metadata"]["uid"]
        selector = f"{LABEL_POOL_UID}={uid}" + (f",{LABEL_ROLE}={role}" if role else "")
        return self.kube.list("pods", self.namespace, selector)

    def waiting(self) -> list[Object]:
        """Its pods that belong to no instance, those that end or did not come up included."""
        return [one for one in self.pods(ROLE_GENERIC) if LABEL_INSTANCE not in one["metadata"]["labels"]]

    def ready_pods(self, role: str = ROLE_WARM) -> list[str]:
        """Names of the pods of a role that are ready and stay."""
        return [one["metadata"]["name"] for one in self.pods(role) if pod_ready(one)]

    def invoke(
        self, project: str, value: Any, tier: str | None = None, key: str = "", **more: Any
    ) -> httpx.Response:
        """One request as it is answered."""
        body = {"tenant_id": TENANT, "project_id": project, "input": value, **more}
        body |= {"tier": tier} if tier else {}
        headers = {"idempotency-key": key} if key else {}
        return self.client.post(f"{self.path}/invoke", json=body, headers=headers)

    def answer(self, project: str, value: Any, tier: str | None = None, **more: Any) -> Object:
        """One request that is answered well."""
        response = self.invoke(project, value, tier, **more)
        assert response.status_code == 200, f"{response.text}\n{self.explain}"
        found: Object = response.json()
        return found

    def teach(self, project: str, text: str, tier: str | None = None) -> Object:
        """Give a Librarian a document that holds a text."""
        return self.answer(project, {"documents": [{"id": "a", "text": text}]}, tier)

    def asked(self, project: str, question: str) -> str:
        """What a Librarian answers."""
        return str(self.answer(project, question)["output"]["answer"])

    def knows(self, project: str, question: str, text: str) -> Object:
        """Check that a Librarian answers with a text, however long its move takes; the whole answer."""

        def told() -> Object | None:
            response = self.invoke(project, question)
            if response.status_code == 503:
                assert response.json()["retryable"], response.text
                return None
            assert response.status_code == 200, response.text
            found: Object = response.json()
            return found

        found = until(told, f"{project} answers: {self.explain}", 30)
        assert found["output"]["answer"] == text, found
        return found

    def instance(self, instance_id: str) -> httpx.Response:
        """What the gateway tells of an instance."""
        return self.client.get(f"{self.path}/instances/{instance_id}")

    def record(self, instance_id: str) -> Object | None:
        """The AgentInstance that stands for an instance, whatever its name."""
        found = self.kube.list("agentinstances", self.namespace)
        return next((one for one in found if (one.get("status") or {}).get("id") == instance_id), None)


@dataclass
class Installed:
    """The release on its cluster.

    Attributes:
        url: of the gateway, REST.
    """

    kube: Kubernetes
    url: str
    _clients: list[httpx.Client] = field(default_factory=list)

    def namespace(self, purpose: str) -> str:
        """A new namespace, with restricted pod security."""
        name = f"e2e-{purpose}-{os.getpid()}-{next(_numbers)}"
        self.kube.create("namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
        return name

    def caller(self, namespace: str, name: str, *verbs: str, pools: Sequence[str] = ()) -> str:
        """The token of a new ServiceAccount with these verbs on these pools, or on all."""
        meta = {"name": name, "namespace": namespace}
        self.kube.create("serviceaccounts", {"metadata": meta})
        if verbs:
            named = {"resourceNames": list(pools)} if pools else {}
            rule = {
                "apiGroups": ["agentpool.dev"],
                "resources": ["agentpools"],
                "verbs": list(verbs),
                **named,
            }
            self.kube.create("roles", {"metadata": meta, "rules": [rule]})
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
            subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
            binding = {"metadata": meta, "roleRef": reference, "subjects": [subject]}
            self.kube.create("rolebindings", binding)
        return self.kube.token(namespace, name, AUDIENCE)

    def client(self, token: str | None) -> httpx.Client:
        """A client of the gateway."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=REQUEST_SECONDS)
        self._clients.append(client)
        return client

    def pool(self, namespace: str, name: str, **settings: Any) -> Pool:
        """A new pool, not ready yet, with a caller of its own."""
        self.kube.apply("agentpools", manifest(namespace, name, **settings))
        token = self.caller(namespace, f"{name}-caller", *ALL_VERBS, pools=[name])
        return Pool(self.kube, namespace, name, self.client(token))

    def parts(self, component: str) -> list[Object]:
        """The release's pods of a component that run and stay."""
        labels = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        found = self.kube.list("pods", SYSTEM, labels)
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def close(self) -> None:
        """Drop connections."""
        for client in self._clients:
            client.close()


def kill_process(pod: Object, module: str) -> int:
    """SIGKILL to the process of a pod of ours that runs a module, from the node; its number."""
    uid = pod["metadata"]["uid"]
    for process in psutil.process_iter():
        try:
            groups = Path(f"/proc/{process.pid}/cgroup").read_text()
            if (uid in groups or uid.replace("-", "_") in groups) and module in process.cmdline():
                os.kill(process.pid, signal.SIGKILL)
                return process.pid
        except (OSError, psutil.Error):
            continue
    raise AssertionError(f"no process runs {module} in pod {pod['metadata']['name']} on this machine")


# Requests for their access to be reviewed are objects in name only: nothing of them is kept.
_NOT_KEPT = frozenset({"subjectaccessreviews", "localsubjectaccessreviews", "tokenreviews"})


class Writes:
    """What was written through the API server since this was made, by its audit log; leases left out."""

    def __init__(self) -> None:
        self._log = Places().logs / "audit.log"
        assert self._log.exists(), (
            f"{self._log} is not there: only the cluster of tools/devcluster writes one"
        )
        self._from = self._log.stat().st_size

    def by(self, account: str, namespace: str) -> list[str]:
        """Verb, resource and name of each object in a namespace that an account of the release wrote."""
        user = f"system:serviceaccount:{SYSTEM}:{account}"
        with self._log.open("rb") as log:
            log.seek(self._from)
            lines = log.read().splitlines()
        events = [json.loads(line) for line in lines if user.encode() in line and line.endswith(b"}")]
        return [
            f"{one['verb']} {ref['resource']}/{ref.get('subresource', '')} {ref.get('name', '')}"
            for one in events
            if one["user"]["username"] == user
            and (ref := one["objectRef"])["resource"] not in _NOT_KEPT | {"leases"}
            and ref.get("namespace") == namespace
        ]


@dataclass
class Load:
    """What happened to requests under way.

    Attributes:
        answered: how many were answered well.
        failures: what was said to the others.
    """

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def load(send: Callable[[], httpx.Response], callers: int = 2, pause: float = 0.05) -> Iterator[Load]:
    """Send requests all through the block, from a few callers at once; no request is sent again."""
    seen, stop, lock = Load(), threading.Event(), threading.Lock()

    def one() -> str:
        try:
            response = send()
        except httpx.HTTPError as exc:
            return f"{type(exc).__name__}: {exc}"
        return "" if response.status_code == 200 else response.text

    def call() -> None:
        while not stop.is_set():
            failure = one()
            with lock:
                seen.answered += not failure
                seen.failures += [failure] if failure else []
            stop.wait(pause)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def at_a_rate(calls: Sequence[Callable[[], httpx.Response]], per_second: float) -> list[httpx.Response]:
    """Start the calls at a steady rate, none waiting for another; their answers in order."""
    answers: list[httpx.Response | None] = [None] * len(calls)

    def call(number: int) -> None:
        answers[number] = calls[number]()

    began = time.monotonic()
    threads = []
    for number in range(len(calls)):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        threads.append(threading.Thread(target=partial(call, number)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert None not in answers
    return [one for one in answers if one is not None]
