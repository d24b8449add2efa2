# SPDX-License-Identifier: Apache-2.0
"""Bring the projects of a pool into it step by step, and all of them out of it again.

Sets the flag agent_pool_enabled to 0, 25, 50 and 100 percent. At each step every project sends requests, and
the answers and the gateway's metrics say which way each of them took. Then the flag is rolled back.

    AGENTPOOL_URL=http://127.0.0.1:8000 python rollout.py --projects 400
"""

import argparse
import asyncio
import os
import re
import sys
from dataclasses import dataclass
from statistics import median

import httpx

FLAG = "agent_pool_enabled"
COUNTED = re.compile(r'by_way_seconds_count\{[^}]*outcome="success"[^}]*served_by="([a-z-]+)"\} ([0-9.]+)')
STEPS = (0, 25, 50, 100)
PARALLEL = 6
TOLD_SECONDS = 10


@dataclass
class Pool:
    """A pool, and a client of each gateway that serves it. Requests go to the gateways in turn."""

    gateways: list[httpx.AsyncClient]
    path: str = "/api/v1/pool"
    ofrep: str = ""

    def gateway(self, number: int) -> httpx.AsyncClient:
        return self.gateways[number % len(self.gateways)]


async def main() -> int:
    """Roll out and back; the exit code is 1 when a request took a way that the flag does not say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=400)
    parser.add_argument("--pool", metavar="NAMESPACE/NAME", help="instead of the gateway's default pool")
    given = os.environ.get("AGENTPOOL_URL", "http://127.0.0.1:8000")
    parser.add_argument(
        "--gateway", action="append", metavar="URL", help="each gateway's own URL; default: AGENTPOOL_URL"
    )
    arguments = parser.parse_args()
    token = os.environ.get("AGENTPOOL_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    urls = arguments.gateway or [given]
    pool = Pool([httpx.AsyncClient(base_url=u, headers=headers, timeout=60, trust_env=False) for u in urls])
    if arguments.pool:
        namespace, _, name = arguments.pool.partition("/")
        pool.path = pool.ofrep = f"/api/v1/namespaces/{namespace}/pools/{name}"
    try:
        return await roll_out(pool, [f"project-{number}" for number in range(arguments.projects)])
    finally:
        for gateway in pool.gateways:
            await gateway.aclose()


async def roll_out(pool: Pool, projects: list[str]) -> int:
    wrong = 0
    before: set[str] = set()
    print("wanted  projects in the pool  requests counted by the gateways  p50 pool  p50 one-shot")
    for share in STEPS:
        await changed(pool, {"percentage": share})
        # The first request of a project that is new in the pool starts its instance.
        await asked(pool, projects)
        counted = await counts(pool)
        ways, times = await asked(pool, projects)
        after = await counts(pool)
        on = {project for project, way in ways.items() if way == "pool"}
        by_gateway = {way: round(after.get(way, 0) - counted.get(way, 0)) for way in ("pool", "one-shot")}
        wrong += len(before - on)
        wrong += by_gateway["pool"] != len(on) or by_gateway["one-shot"] != len(projects) - len(on)
        wrong += sum(ways[project] != way for project, way in (await evaluated(pool, projects)).items())
        before = on
        measured = f"{len(on)} of {len(projects)} = {100 * len(on) / len(projects):.2f} %"
        gateways = f"{by_gateway['pool']} pool, {by_gateway['one-shot']} one-shot"
        print(f"{share:4} %  {measured:20}  {gateways:32} {p50(times['pool'])} {p50(times['one-shot'])}")
    await changed(pool, {"roll_back": True})
    ways, _ = await asked(pool, projects[: len(pool.gateways)])
    print(f"rolled back; the next request was served by: {', '.join(sorted(set(ways.values())))}")
    await pool.gateway(0).delete(f"{pool.path}/flags/{FLAG}")
    wrong += sum(way != "one-shot" for way in ways.values())
    print(f"{wrong} requests took another way than the flag says")
    return 1 if wrong else 0


async def changed(pool: Pool, change: dict[str, object]) -> None:
    """Change the flag through one gateway, and wait until the others have heard of it."""
    first = pool.gateway(0)
    (await first.patch(f"{pool.path}/flags/{FLAG}", json=change)).raise_for_status()
    wanted = await version(pool, first)
    async with asyncio.timeout(TOLD_SECONDS):
        for gateway in pool.gateways:
            while await version(pool, gateway) < wanted:  # noqa: ASYNC110  # another process hears of it
                await asyncio.sleep(0.02)


async def version(pool: Pool, gateway: httpx.AsyncClient) -> int:
    """How many changes of flags a gateway has heard of."""
    return int((await gateway.get(f"{pool.path}/flags")).raise_for_status().json()["version"])


async def ask(pool: Pool, number: int, project: str) -> tuple[str, float]:
    """Which way a request of the project took, and its milliseconds at the gateway."""
    body = {"tenant_id": "rollout", "project_id": project, "input": "hello"}
    response = await pool.gateway(number).post(f"{pool.path}/invoke", json=body)
    if response.is_error:
        raise SystemExit(response.text)
    answer = response.json()
    return answer["served_by"], answer["timing"]["done_ms"]


async def asked(pool: Pool, projects: list[str]) -> tuple[dict[str, str], dict[str, list[float]]]:
    """A request of each project, a few at a time."""
    turns = asyncio.Semaphore(PARALLEL)
    ways: dict[str, str] = {}
    times: dict[str, list[float]] = {"pool": [], "one-shot": []}

    async def one(number: int, project: str) -> None:
        async with turns:
            ways[project], milliseconds = await ask(pool, number, project)
        times[ways[project]].append(milliseconds)

    await asyncio.gather(*(one(number, project) for number, project in enumerate(projects)))
    return ways, times


async def counts(pool: Pool) -> dict[str, float]:
    """Answered requests by the way they took, as the gateways count them."""
    found: dict[str, float] = {}
    for gateway in pool.gateways:
        text = (await gateway.get(f"{pool.path}/metrics")).raise_for_status().text
        for way, number in COUNTED.findall(text):
            found[way] = found.get(way, 0.0) + float(number)
    return found


async def evaluated(pool: Pool, projects: list[str]) -> dict[str, str]:
    """What OpenFeature's protocol says of a few projects, as the way that they should take."""
    found = {}
    for number, project in enumerate(projects[:10]):
        context = {"context": {"targetingKey": f"rollout/{project}"}}
        url = f"{pool.ofrep}/ofrep/v1/evaluate/flags/{FLAG}"
        answer = await pool.gateway(number).post(url, json=context)
        found[project] = "pool" if answer.json()["value"] else "one-shot"
    return found


def p50(times: list[float]) -> str:
    return f"{median(times):7.1f} ms" if times else f"{'-':>10}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
