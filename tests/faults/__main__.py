# SPDX-License-Identifier: Apache-2.0
"""`make faults`: every campaign, with progress and a table at the end; FULL=1 for all of everything.

Names of campaigns as arguments run only those.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agentpool_core.crd import KINDS, definition
from agentpool_operator.kube.client import KubeClient, connect
from faults import campaigns
from faults.campaigns import World
from faults.findings import Findings, table
from faults.schema import RUNTIMES
from support.apiserver import ApiServer, api_server

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ESTABLISH_SECONDS = 30.0
CAMPAIGN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign, and whether it needs an API server."""

    run: Callable[[World], Awaitable[None]]


CAMPAIGNS: Mapping[str, Campaign] = {
    "regressions": Campaign(campaigns.regressions),
    "redis": Campaign(campaigns.redis),
    "specs": Campaign(campaigns.specs),
    "stale": Campaign(campaigns.stale),
    "crashes": Campaign(campaigns.crashes),
    "planted": Campaign(campaigns.planted),
}


def define(api: ApiServer) -> None:
    """Make the project's definitions and some runtimes known; raises TimeoutError when the former are not
    served in time."""
    for kind in KINDS:
        api.create(DEFINITIONS, definition(kind)).raise_for_status()
    for name in RUNTIMES:
        body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
        api.create(
            "/apis/node.k8s.io/v1/runtimeclasses", {**body, "metadata": {"name": name}}
        ).raise_for_status()
    deadline = time.monotonic() + ESTABLISH_SECONDS
    for kind in KINDS:
        while not api.client.get(f"/apis/agentpool.dev/v1alpha1/{kind.plural}").is_success:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{kind.name} was not established")
            time.sleep(0.05)


async def run(api: ApiServer, names: list[str], full: bool) -> Findings:
    """The campaigns of these names."""
    os.environ["KUBECONFIG"] = str(api.kubeconfig)
    client = KubeClient(await connect())
    findings = Findings()
    world = World(api, client, findings, full)
    try:
        for name in names:
            began = time.monotonic()
            before = len(findings.violations)
            async with asyncio.timeout(CAMPAIGN_SECONDS):
                await CAMPAIGNS[name].run(world)
            new = len(findings.violations) - before
            world.say(f"{name}: done in {time.monotonic() - began:.0f} s, {new} violations")
    finally:
        await client.close()
    return findings


def main() -> int:
    """Run; 0 when nothing was violated and every planted bug was found."""
    names = sys.argv[1:] or list(CAMPAIGNS)
    unknown = [name for name in names if name not in CAMPAIGNS]
    if unknown:
        print(f"faults: no campaign {unknown[0]}; there are {', '.join(CAMPAIGNS)}", file=sys.stderr)  # noqa: T201
        return 2
    began = time.monotonic()
    with api_server() as api:
        define(api)
        findings = asyncio.run(run(api, names, bool(os.environ.get("FULL"))))
    print(table(findings))  # noqa: T201
    print(f"  {time.monotonic() - began:.0f} s")  # noqa: T201
    return 0 if findings.passed else 1


if __name__ == "__main__":
    sys.exit(main())
