# SPDX-License-Identifier: Apache-2.0
"""What code in the workers container of a real pod cannot do, and what the pods are made of.

The code runs as the workers' user without the guards of a worker process: what it is kept from here, the
containers and users keep it from.
"""

from __future__ import annotations

import base64
import json
import textwrap
from urllib.parse import quote, urlsplit

import pytest

from agentpool_core.cluster import HOST_UID, POD_GID, WORKERS_UID
from support.e2e import SYSTEM, Installed, Pool
from support.pod_security import violations

REDIS = f"agentpool-redis.{SYSTEM}.svc"

FILES = """
import os
found = []
for top in ("/etc/agentpool", "/var/run/secrets", "/run/secrets"):
    for folder, _, names in os.walk(top):
        found += [os.path.join(folder, name) for name in names]
print(found)
"""
# The address of the API server is given to every container by the kubelet, and is no secret.
ENVIRONMENT = """
import os
print(sorted(name for name in os.environ if "AGENTPOOL" in name or "REDIS" in name or "TOKEN" in name))
"""
PROCESSES = """
import os
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        found.append(open(f"/proc/{pid}/cmdline").read().replace(chr(0), " "))
    except OSError:
        pass
print(*(any(f"agentpool_agent.{part}" in one for one in found) for part in ("zygote", "host")))
"""
CALLS = """
import grpc
from agentpool_proto.v1 import host_pb2 as pb
from agentpool_proto.v1.host_pb2_grpc import AgentHostStub
stub = AgentHostStub(grpc.insecure_channel("127.0.0.1:7400"))
request = pb.HostInvokeRequest(tenant_id="acme", project_id="x", input=b"1")
calls = {
    "invoke": lambda **more: list(stub.Invoke(request, **more)),
    "watch": lambda **more: list(stub.Watch(pb.WatchRequest(), **more)),
    "list": lambda **more: stub.List(pb.ListRequest(), **more),
    "retire": lambda **more: stub.Retire(pb.RetireRequest(), **more),
}
said = {}
for name, call in calls.items():
    for token in ("", "Bearer made.up.token"):
        try:
            call(timeout=5, metadata=(("authorization", token),) if token else ())
            said[name + token[:1]] = "answered"
        except grpc.RpcError as exc:
            said[name + token[:1]] = exc.code().name
print(" ".join(sorted(set(said.values()))))
"""
PORT = """
import socket
try:
    socket.socket().bind(("0.0.0.0", 7400))
    print("taken")
except OSError as exc:
    print(exc.strerror)
"""
ROOT_FILES = """
import os
for path in ("/opt/agentpool/mine", "/etc/mine", "/mine", "/run/mine"):
    try:
        open(path, "w")
        print("wrote", path)
    except OSError:
        pass
print(os.getuid())
"""
ASK_REDIS = """
import redis
store = redis.Redis.from_url({url!r}, socket_timeout=5)
for command in {commands!r}:
    try:
        print("answered", store.execute_command(*command))
    except redis.RedisError as exc:
        print(type(exc).__name__, str(exc).split(" ")[0])
"""


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """One shared pod, one that waits."""
    made = installed.pool(namespace, "hardened", waiting=1)
    made.ready()
    return made


@pytest.fixture(scope="module")
def pod(pool: Pool) -> str:
    """A shared pod with a resident."""
    return str(pool.teach("tenant", "Private words.")["pod"])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(FILES, "[]", id="it finds no Secret and no token of the cluster"),
        pytest.param(ENVIRONMENT, "[]", id="its environment tells nothing"),
        pytest.param(PROCESSES, "True False", id="it sees the zygote and not the host"),
        pytest.param(CALLS, "UNAUTHENTICATED", id="the host's port answers nobody without a call token"),
        pytest.param(PORT, "Address already in use", id="it cannot take the host's port"),
        pytest.param(ROOT_FILES, str(WORKERS_UID), id="it cannot write to the root file system"),
    ],
)
def test_code_in_the_workers_container(pool: Pool, pod: str, code: str, said: str) -> None:
    assert pool.kube.python(pool.namespace, pod, "workers", textwrap.dedent(code)) == said


def secret_url(pool: Pool) -> str:
    """The pool's own URL of Redis."""
    secret = pool.kube.get("secrets", pool.namespace, f"{pool.name}-agentpool-redis")
    assert secret is not None
    return base64.b64decode(secret["data"]["url"]).decode()


def ask(pool: Pool, pod: str, container: str, url: str, *commands: tuple[str, ...]) -> list[str]:
    """What Redis says to commands from a container."""
    code = ASK_REDIS.format(url=url, commands=commands)
    return pool.kube.python(pool.namespace, pod, container, code).splitlines()


def test_redis_refuses_who_has_no_password_or_a_wrong_one(pool: Pool, pod: str) -> None:
    user = urlsplit(secret_url(pool)).username or ""
    for login in ("", f"{quote(user)}:wrong@", "default:@", "agentpool:agentpool@"):
        for line in ask(pool, pod, "workers", f"redis://{login}{REDIS}:6379", ("PING",), ("KEYS", "*")):
            assert line.startswith("AuthenticationError"), (login, line)


def test_a_pool_s_own_user_reaches_its_own_keys_alone(pool: Pool, pod: str, installed: Installed) -> None:
    other = installed.pool(pool.namespace, "neighbour", warm=0)
    other.ready()
    mine, theirs = pool.body["metadata"]["uid"], other.body["metadata"]["uid"]
    commands = [
        ("GET", f"ap:{{{mine}}}:generation"),
        ("GET", f"ap:{{{theirs}}}:generation"),
        ("SET", f"ap:{{{theirs}}}:generation", "x"),
        ("DEL", f"ap:{{{theirs}}}:generation"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", f"ap:{{{theirs}}}:generation"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("DEBUG", "SLEEP", "0"),
    ]
    own, *foreign = ask(pool, pod, "host", secret_url(pool), *commands)
    assert own.startswith("answered b'")
    assert {line.split(" ")[0] for line in foreign} <= {"NoPermissionError", "ResponseError"}, foreign


def test_every_pod_is_restricted_and_of_two_users(pool: Pool) -> None:
    pods = pool.pods()
    assert {one["metadata"]["labels"]["agentpool.dev/role"] for one in pods} >= {"warm", "generic"}
    for one in pods:
        spec = one["spec"]
        assert violations(spec) == []
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["fsGroup"] == POD_GID
        users = {box["name"]: box["securityContext"]["runAsUser"] for box in spec["containers"]}
        assert users == {"host": HOST_UID, "workers": WORKERS_UID}
        mounts = {box["name"]: {at["name"] for at in box["volumeMounts"]} for box in spec["containers"]}
        secret = {one["name"] for one in spec["volumes"] if "secret" in one}
        assert secret <= mounts["host"]
        assert not secret & mounts["workers"]


def test_no_worker_is_without_its_guards(pool: Pool) -> None:
    stats = pool.client.get(f"{pool.path}/stats").json()
    assert all(host["isolation"] for host in stats["hosts"])
    assert {json.dumps(host["isolation_missing"]) for host in stats["hosts"]} == {"{}"}
