# SPDX-License-Identifier: Apache-2.0
"""What a pod's start pays for: a first request waits for it whenever no pod is ready beforehand."""

from __future__ import annotations

import asyncio
import sys

import pytest

LOADED = "import sys, {}; print(*sys.modules)"
RESOURCES = (
    "agentpool_core.api.manifest",
    "agentpool_core.api.reading",
    "agentpool_core.api.v1alpha1.agentinstance",
    "agentpool_core.api.v1alpha1.agentpool",
    "agentpool_core.api.v1alpha1.meta",
    "agentpool_core.api.v1alpha1.status",
    "agentpool_core.config.settings",
    "agentpool_core.crd",
    "yaml",
)
"""What only those need that read manifests."""
NEEDLESS = {
    "agentpool_agent.host.__main__": (*RESOURCES, "opentelemetry.sdk", "opentelemetry.exporter"),
    "agentpool_agent.zygote.boot": (
        *RESOURCES,
        "agentpool_core.config",
        "cryptography",
        "grpc",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "redis",
        "structlog",
    ),
}


async def _loaded_by(module: str) -> set[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", LOADED.format(module), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return set(out.decode().split())


@pytest.mark.parametrize("module", NEEDLESS)
async def test_a_start_loads_nothing_that_the_process_does_not_need(module: str) -> None:
    loaded = await _loaded_by(module)
    assert module in loaded
    needless = NEEDLESS[module]
    assert [name for name in sorted(loaded) if name.startswith(needless)] == []


async def test_an_exporter_still_finds_the_metrics_that_redis_py_does_without() -> None:
    loaded = await _loaded_by("agentpool_agent.store, opentelemetry.sdk.metrics")
    assert {"redis.asyncio", "opentelemetry.sdk.metrics"} <= loaded
