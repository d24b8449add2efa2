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
from statistics import median

import httpx

FLAG = "/api/v1/pool/flags/agent_pool_enabled"
COUNTED = re.compile(r'by_way_seconds_count\{[^}]*outcome="success"[^}]*served_by="([a-z-]+)"\} ([0-9.]+)')
STEPS = (0, 25, 50, 100)
PARALLEL = 6


async def main() -> int:
    """Roll out and back; the exit code is 1 when a request took a way that the flag does not say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=400)
    count = parser.parse_args().projects
    url = os.environ.get("AGENTPOOL_URL", "http://127.0.0.1:8000")
    token = os.environ.get("AGENTPOOL_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        return await roll_out(client, [f"project-{number}" for number in range(count)])


async def roll_out(client: httpx.AsyncClient, projects: list[str]) -> int:
    wrong = 0
    before: set[str] = set()
    print("wanted  projects in the pool  requests counted by the gateway   p50 pool  p50 one-shot")
    for share in STEPS:
        await changed(client, {"percentage": share})
        # The first request of a project that is new in the pool starts its instance.
        await asked(client, projects)
        counted = await counts(client)
        ways, times = await asked(client, projects)
        after = await counts(client)
        on = {project for project, way in ways.items() if way == "pool"}
        by_gateway = {way: round(after.get(way, 0) - counted.get(way, 0)) for way in ("pool", "one-shot")}
        wrong += len(before - on)
        wrong += by_gateway["pool"] != len(on) or by_gateway["one-shot"] != len(projects) - len(on)
        wrong += sum(ways[project] != way for project, way in (await evaluated(client, projects)).items())
        before = on
        measured = f"{len(on)} of {len(projects)} = {100 * len(on) / len(projects):.2f} %"
        gateway = f"{by_gateway['pool']} pool, {by_gateway['one-shot']} one-shot"
        print(f"{share:4} %  {measured:20}  {gateway:32} {p50(times['pool'])} {p50(times['one-shot'])}")
    await changed(client, {"roll_back": True})
    way, _ = await ask(client, projects[0])
    print(f"rolled back; the next request was served by: {way}")
    await client.delete(FLAG)
    wrong += way != "one-shot"
    print(f"{wrong} requests took another way than the flag says")
    return 1 if wrong else 0


async def changed(client: httpx.AsyncClient, change: dict[str, object]) -> None:
    (await client.patch(FLAG, json=change)).raise_for_status()


async def ask(client: httpx.AsyncClient, project: str) -> tuple[str, float]:
    """Which way a request of the project took, and its milliseconds at the gateway."""
    body = {"tenant_id": "rollout", "project_id": project, "input": "hello"}
    response = await client.post("/api/v1/pool/invoke", json=body)
    if response.is_error:
        raise SystemExit(response.text)
    answer = response.json()
    return answer["served_by"], answer["timing"]["done_ms"]


async def asked(
    client: httpx.AsyncClient, projects: list[str]
) -> tuple[dict[str, str], dict[str, list[float]]]:
    """A request of each project, a few at a time."""
    turns = asyncio.Semaphore(PARALLEL)
    ways: dict[str, str] = {}
    times: dict[str, list[float]] = {"pool": [], "one-shot": []}

    async def one(project: str) -> None:
        async with turns:
            ways[project], milliseconds = await ask(client, project)
        times[ways[project]].append(milliseconds)

    await asyncio.gather(*(one(project) for project in projects))
    return ways, times


async def counts(client: httpx.AsyncClient) -> dict[str, float]:
    """Answered requests by the way they took, as the gateway counts them."""
    text = (await client.get("/api/v1/pool/metrics")).text
    return {way: float(number) for way, number in COUNTED.findall(text)}


async def evaluated(client: httpx.AsyncClient, projects: list[str]) -> dict[str, str]:
    """What OpenFeature's protocol says of a few projects, as the way that they should take."""
    found = {}
    for project in projects[:10]:
        context = {"context": {"targetingKey": f"rollout/{project}"}}
        answer = await client.post("/ofrep/v1/evaluate/flags/agent_pool_enabled", json=context)
        found[project] = "pool" if answer.json()["value"] else "one-shot"
    return found


def p50(times: list[float]) -> str:
    return f"{median(times):7.1f} ms" if times else f"{'-':>10}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
