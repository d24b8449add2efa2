# SPDX-License-Identifier: Apache-2.0
"""`make bench-cluster`: the data plane on the real pods of the development cluster.

Runs on the node itself: it reads the API server's audit log, and memory and CPU of the pods' processes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.clients import Gateway, GatewayGrpc, Host
from benchmarks.load import Run, closed_loop, open_loop
from benchmarks.processes import Process, everything, private_bytes
from benchmarks.scenarios import BODY, Row, add, clients_of, row_of

NAMESPACE = "agentpool-bench"
SYSTEM = "agentpool-system"
MANIFEST = Path(__file__).parent / "pools" / "cluster.yaml"
AUDIT_LOG = Path("/var/lib/agentpool-devcluster/log/audit.log")
READY_SECONDS = 180
SETTLE_SECONDS = 20.0
REST_SECONDS = 30.0


async def kubectl(*words: str, timeout_seconds: float = READY_SECONDS) -> str:
    """Run kubectl against the cluster of KUBECONFIG; RuntimeError with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        "kubectl", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(timeout_seconds):
        out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(words)}: {err.decode()}")
    return out.decode()


async def set_up() -> tuple[Gateway, Host]:
    """The pool, and how to call it."""
    await kubectl("create", "namespace", NAMESPACE)
    await kubectl("-n", NAMESPACE, "apply", "-f", str(MANIFEST))
    await waiting_pods_ready()
    token = await kubectl(
        "-n", NAMESPACE, "create", "token", "bench", "--audience=agentpool", "--duration=1h"
    )
    service = json.loads(await kubectl("-n", SYSTEM, "get", "service", "agentpool-gateway", "-o", "json"))
    address = service["spec"]["clusterIP"]
    path = f"/api/v1/namespaces/{NAMESPACE}/pools/bench"
    rest = f"http://{address}:8000"
    gateway = Gateway(rest, f"{address}:9000", path, NAMESPACE, "bench", token.strip())
    return gateway, await warm_host()


async def waiting_pods_ready() -> None:
    """Wait until pool and every waiting pod are ready."""
    ready = ["wait", "--for=condition=Ready", f"--timeout={READY_SECONDS}s"]
    await kubectl("-n", NAMESPACE, *ready, "agentpool/bench", timeout_seconds=READY_SECONDS + 10)
    pods = ["pods", "-l", "app.kubernetes.io/name=agentpool-agent"]
    await kubectl("-n", NAMESPACE, *ready, *pods, timeout_seconds=READY_SECONDS + 10)


async def warm_host() -> Host:
    """The host of the one WARM pod, with the key that gateways sign with."""
    pods = json.loads(
        await kubectl("-n", NAMESPACE, "get", "pods", "-l", "agentpool.dev/role=warm", "-o", "json")
    )
    pod = pods["items"][0]
    secret = json.loads(await kubectl("-n", SYSTEM, "get", "secret", "agentpool-call-token", "-o", "json"))
    key = base64.b64decode(secret["data"]["private.pem"])
    return Host(pod["metadata"]["uid"], f"{pod['status']['podIP']}:7400", key)


def writes_since(offset: int) -> Counter[str]:
    """Object writes in the audit log after `offset` by their user agents, without Leases and reviews."""
    found: Counter[str] = Counter()
    with AUDIT_LOG.open("rb") as log:
        log.seek(offset)
        for line in log:
            event = json.loads(line)
            reference = event.get("objectRef", {})
            if reference.get("resource") in ("leases", "subjectaccessreviews", "serviceaccounts"):
                continue
            if event["verb"] in ("create", "update", "patch", "delete", "deletecollection"):
                found[event.get("userAgent", "").partition("/")[0]] += 1
    return found


async def overhead(gateway: Gateway, host: Host) -> list[Row]:
    """One caller, three ways, in turns."""
    clients = await clients_of(host, gateway)
    runs = {name: Run() for name in clients}
    for _ in range(5):
        for name, client in clients.items():
            await closed_loop(lambda _, client=client: client.invoke("path", BODY), 50)  # type: ignore[misc]
            run = await closed_loop(lambda _, client=client: client.invoke("path", BODY), 200)  # type: ignore[misc]
            add(runs[name], run)
    for client in clients.values():
        await client.close()
    return [row_of(f"{name}, one caller", run) for name, run in runs.items()]


async def first(gateway: Gateway, tier: str, per_second: float, seconds: float, name: str) -> list[Row]:
    """First requests by schedule, and the object writes meanwhile and until everything has settled."""
    client = GatewayGrpc(replace(gateway, tier=tier))
    await closed_loop(lambda _: client.invoke("known", BODY), 5)
    before = AUDIT_LOG.stat().st_size  # noqa: ASYNC240  # one look at a file of this machine
    run = await open_loop(lambda number: client.invoke(f"{name}-{number}", BODY), per_second, seconds, seed=7)
    during = writes_since(before)
    await asyncio.sleep(SETTLE_SECONDS)
    settled = writes_since(before)
    await client.close()
    requests = len(run.milliseconds)
    # A refusal is a result here: the pool was empty for a moment.
    refused, run.errors = len(run.errors), []
    rows = [row_of(name, run), Row(f"{name}: refused", None, float(refused), "requests")]
    for agent in ("agentpool-gateway", "agentpool-operator"):
        notes = {"before the last answer": during[agent]}
        rows.append(
            Row(f"{name}: writes of {agent} a request", None, settled[agent] / requests, "writes", notes)
        )
    others = sum(count for agent, count in settled.items() if not agent.startswith("agentpool"))
    rows.append(Row(f"{name}: writes of everybody else a request", None, others / requests, "writes"))
    return rows


async def at_rest() -> list[Row]:
    """Memory, CPU and writes of operator and gateway while nobody asks."""
    before, offset = parts(), AUDIT_LOG.stat().st_size  # noqa: ASYNC240
    await asyncio.sleep(REST_SECONDS)
    after = parts()
    written = writes_since(offset)
    rows = []
    for name, process in after.items():
        used = process.cpu_seconds - before[name].cpu_seconds
        rows.append(Row(f"private memory of the {name}", None, private_bytes(process.pid) / 2**20, "MB"))
        rows.append(Row(f"CPU of the {name} at rest", None, 100 * used / REST_SECONDS, "% of a core"))
    ours = sum(count for agent, count in written.items() if agent.startswith("agentpool"))
    return [*rows, Row("object writes at rest, ours", None, float(ours), f"in {REST_SECONDS:.0f} s")]


def parts() -> dict[str, Process]:
    """Operator and gateway; of several gateways the first."""
    found: dict[str, Process] = {}
    for process in sorted(everything(), key=lambda one: one.pid):
        for name in ("operator", "gateway"):
            if f"-m agentpool_{name}" in process.command or f"agentpool_{name} " in process.command:
                found.setdefault(name, process)
    return found


async def measure() -> list[Row]:
    """Everything, and the pool is removed again."""
    try:
        return await _measure(*await set_up())
    finally:
        await kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


async def _measure(gateway: Gateway, host: Host) -> list[Row]:
    steps: list[Callable[[], Awaitable[list[Row]]]] = [
        lambda: overhead(gateway, host),
        lambda: first(gateway, "WARM", 5.0, 20.0, "WARM first request, 5/s"),
        lambda: first(gateway, "COLD", 0.5, 20.0, "COLD first request, pods waiting"),
        lambda: first(gateway, "COLD", 2.0, 7.0, "COLD first request, 2/s with refill"),
        at_rest,
    ]
    rows: list[Row] = []
    for step in steps:
        await waiting_pods_ready()
        rows += await step()
    return rows


def facts() -> dict[str, Any]:
    """Conditions that belong to the numbers."""
    cluster = os.environ.get("KUBECONFIG", "")
    if not cluster or not AUDIT_LOG.exists():
        sys.exit("error: no development cluster; run `make cluster-up deploy` and `. .devcluster/env`")
    return {"cluster": "one node, etcd without fsync, audit log of writes on; everything shares the cores"}
