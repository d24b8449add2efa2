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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agentpool_core.api.quantity import cpu_millis
from benchmarks.clients import Gateway, GatewayGrpc, Host
from benchmarks.load import Run, closed_loop, open_loop
from benchmarks.milestones import Milestones
from benchmarks.processes import Process, everything, private_bytes
from benchmarks.report import Bar
from benchmarks.rows import Row, row_of
from benchmarks.scenarios import BODY, clients_of

NAMESPACE = "agentpool-bench"
SYSTEM = "agentpool-system"
MANIFEST = Path(__file__).parent / "pools" / "cluster.yaml"
AUDIT_LOG = Path("/var/lib/agentpool-devcluster/log/audit.log")
READY_SECONDS = 180
SETTLE_SECONDS = 20.0
GONE_SECONDS = 240.0
FREE_CPU_MILLIS = 1550
"""What 35 waiting pods, 40 instances of their own and a shared pod ask for."""
ONE_BY_ONE_REQUESTS = 20
PAUSE_SECONDS = 1.0
"""Before and after the pool is seen to be whole again."""
REST_SECONDS = 30.0
DRIVER_NICENESS = -10
ONE_BY_ONE = "COLD first request, one by one"
REFILLED = "COLD first request, 2/s with refill"
WARM = "WARM first request, 5/s"
OPERATOR_WRITES = "writes of agentpool-operator a request"


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
    """The pool, and how to call it. RuntimeError when the node has no room for its pods."""
    free = await free_cpu_millis()
    if free < FREE_CPU_MILLIS:
        raise RuntimeError(
            f"the node has {free}m CPU left to ask for, and the pool needs {FREE_CPU_MILLIS}m:"
            " delete other pools first, for example `kubectl delete agentpool support`"
        )
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


async def free_cpu_millis() -> int:
    """What the scheduler has left to give on the node, thousandths of a core."""
    node = json.loads(await kubectl("get", "nodes", "-o", "json"))["items"][0]
    pods = json.loads(await kubectl("get", "pods", "--all-namespaces", "-o", "json"))["items"]
    asked = (
        container.get("resources", {}).get("requests", {}).get("cpu", "0")
        for pod in pods
        if pod["status"].get("phase") not in ("Succeeded", "Failed")
        for container in pod["spec"]["containers"]
    )
    return cpu_millis(node["status"]["allocatable"]["cpu"]) - sum(map(cpu_millis, asked))


async def waiting_pods_ready() -> None:
    """Wait until the pool is ready and as many pods wait as it wants."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            pool = json.loads(await kubectl("-n", NAMESPACE, "get", "agentpool", "bench", "-o", "json"))
            status = pool.get("status", {})
            ready = any(
                one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ())
            )
            if ready and status.get("generic", {}).get("ready", 0) >= pool["spec"]["warmup"]["count"]:
                return
            await asyncio.sleep(0.5)


async def all_pods_wait() -> None:
    """Wait until as many pods that nobody took are ready as the pool wants; its status says so later."""
    pool = json.loads(await kubectl("-n", NAMESPACE, "get", "agentpool", "bench", "-o", "json"))
    wanted = pool["spec"]["warmup"]["count"]
    free = "agentpool.dev/role=generic,!agentpool.dev/instance"
    async with asyncio.timeout(READY_SECONDS):
        while True:
            pods = json.loads(await kubectl("-n", NAMESPACE, "get", "pods", "-l", free, "-o", "json"))[
                "items"
            ]
            conditions = (one for pod in pods for one in pod["status"].get("conditions", ()))
            if sum((one["type"], one["status"]) == ("Ready", "True") for one in conditions) >= wanted:
                return
            await asyncio.sleep(0.5)


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
            runs[name].add(run)
    for client in clients.values():
        await client.close()
    return [row_of(f"{name}, one caller", run) for name, run in runs.items()]


async def first(gateway: Gateway, tier: str, per_second: float, seconds: float, name: str) -> list[Row]:
    """First requests by schedule, or one by one when `per_second` is 0, and the object writes meanwhile and
    until everything has settled."""
    client = GatewayGrpc(replace(gateway, tier=tier))
    await closed_loop(lambda _: client.invoke("known", BODY), 5)
    before = AUDIT_LOG.stat().st_size  # noqa: ASYNC240  # one look at a file of this machine
    if per_second:
        run = await open_loop(
            lambda number: client.invoke(f"{name}-{number}", BODY), per_second, seconds, seed=7
        )
    else:
        run = await one_by_one(lambda number: client.invoke(f"{name}-{number}", BODY))
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


async def one_by_one(send: Callable[[int], Awaitable[Milestones | None]]) -> Run:
    """First requests one at a time, each when as many pods wait as the pool wants."""
    run = Run()
    for number in range(ONE_BY_ONE_REQUESTS):
        await asyncio.sleep(PAUSE_SECONDS)
        await all_pods_wait()
        await asyncio.sleep(PAUSE_SECONDS)
        run.add(await closed_loop(partial(_ignoring, send, number), 1))
    return run


def _ignoring(
    send: Callable[[int], Awaitable[Milestones | None]], number: int, _: int
) -> Awaitable[Milestones | None]:
    return send(number)


async def given_back(name: str) -> list[Row]:
    """What it costs to end every COLD instance of a measurement, counted from its last request on."""
    before, started = AUDIT_LOG.stat().st_size, asyncio.get_running_loop().time()  # noqa: ASYNC240
    count = found = await instances()
    while found and asyncio.get_running_loop().time() < started + GONE_SECONDS:
        await asyncio.sleep(1)
        found = await instances()
    if found:
        raise RuntimeError(f"{found} COLD instances have not ended within {GONE_SECONDS:.0f} s")
    await asyncio.sleep(SETTLE_SECONDS)
    written = writes_since(before)["agentpool-operator"] / max(count, 1)
    return [Row(f"{name}, given back: writes of agentpool-operator each", None, written, "writes")]


async def instances() -> int:
    """How many instances have a pod of their own."""
    return len((await kubectl("-n", NAMESPACE, "get", "agentinstances", "-o", "name")).split())


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
    # A client of one's own is elsewhere, and is not late because pods start on the node.
    os.setpriority(os.PRIO_PROCESS, 0, DRIVER_NICENESS)
    try:
        return await _measure(*await set_up())
    finally:
        await kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


async def _measure(gateway: Gateway, host: Host) -> list[Row]:
    steps: list[Callable[[], Awaitable[list[Row]]]] = [
        lambda: overhead(gateway, host),
        lambda: first(gateway, "WARM", 5.0, 20.0, WARM),
        lambda: first(gateway, "COLD", 0.0, 0.0, ONE_BY_ONE),
        lambda: given_back(ONE_BY_ONE),
        lambda: first(gateway, "COLD", 2.0, 15.0, REFILLED),
        lambda: given_back(REFILLED),
        at_rest,
    ]
    rows: list[Row] = []
    for step in steps:
        await waiting_pods_ready()
        rows += await step()
    return rows


def bars(rows: Sequence[Row]) -> list[Bar]:
    """The design's targets that need real pods."""
    times = {row.name: row.times for row in rows if row.times is not None}
    figures = {row.name: row.figure for row in rows if row.figure is not None}
    ratio = times["gateway gRPC, one caller"].p50 / times["direct, one caller"].p50
    found = [
        Bar("gateway gRPC / direct, p50", ratio, "x", 2.5, 1.6),
        Bar(f"{WARM}, p50", times[WARM].p50, "ms", 10, 4),
        Bar(f"{WARM}, p99", times[WARM].p99, "ms", 50, 20),
    ]
    for name in (ONE_BY_ONE, REFILLED):
        found.append(Bar(f"{name}, p50", times[name].p50, "ms", 10, 5))
        found.append(Bar(f"{name}, p99", times[name].p99, "ms", 100, 30))
        found.append(Bar(f"{name}: operator", figures[f"{name}: {OPERATOR_WRITES}"], "writes", 6, 6))
    return [
        *found,
        Bar("memory of the operator", figures["private memory of the operator"], "MB", 120, 120),
        Bar("object writes at rest", figures["object writes at rest, ours"], "writes", 0, 0),
    ]


def facts() -> dict[str, Any]:
    """Conditions that belong to the numbers."""
    cluster = os.environ.get("KUBECONFIG", "")
    if not cluster or not AUDIT_LOG.exists():
        sys.exit("error: no development cluster; run `make cluster-up deploy` and `. .devcluster/env`")
    return {
        "cluster": "one node, etcd without fsync, audit log of writes on; everything shares the cores",
        "driver": f"runs on the node at a nice value of {DRIVER_NICENESS}",
    }
