# SPDX-License-Identifier: Apache-2.0
"""Command lines and environments of the parts."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentpool_cli.dev.layout import PodPlace, RunDirectory
from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import Tier

PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    "AGENTPOOL_TRACE_IDENTITIES",
)
"""What a part needs of the user's environment; keys and tokens in it are nobody else's business."""
DRAIN_SECONDS = 8
"""Requests in flight have this long to end after Ctrl-C; a person waits for it."""
REDIS_VARIABLE = "AGENTPOOL_REDIS_URL"


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every part."""
    return {name: environ[name] for name in PASSED_ON if name in environ}


def pod_places(config: EffectivePool, ports: Sequence[int]) -> list[PodPlace]:
    """One pod per port. Uids follow from the pool's, so that a later run is known as the same pod to the
    records in Redis and takes over what an earlier one held when it was killed."""
    space = uuid.UUID(config.uid)
    names = [f"{config.name}-{number}" for number in range(len(ports))]
    return [
        PodPlace(name, str(uuid.uuid5(space, name)), port) for name, port in zip(names, ports, strict=True)
    ]


def gateway_command(run: RunDirectory) -> list[str]:
    """The gateway's command line."""
    return [sys.executable, "-m", "agentpool_gateway", "--settings", str(run.gateway_file)]


def pod_command(
    place: PodPlace, config: EffectivePool, run: RunDirectory, app_dirs: Sequence[Path]
) -> list[str]:
    """The command line of one agent pod: a host and a zygote, supervised."""
    command = [sys.executable, "-m", "agentpool_agent.pod", "--entrypoint", config.agent.entrypoint]
    for directory in app_dirs:
        command += ["--app-dir", str(directory)]
    return [
        *command,
        "--run-dir",
        str(run.pod_directory(place.name)),
        "--",
        *host_arguments(place, config, run),
    ]


def host_arguments(place: PodPlace, config: EffectivePool, run: RunDirectory) -> list[str]:
    """The host's part of a pod's command line. On one machine a host takes instances of every tier."""
    options = {
        "--listen": place.address,
        "--public-key-file": run.public_key,
        "--pod": place.name,
        "--pod-uid": place.uid,
        "--namespace": config.namespace,
        "--pool": config.name,
        "--role": "Shared",
        "--tiers": ",".join(Tier),
        "--config-file": run.pool_file,
        "--drain-seconds": DRAIN_SECONDS,
    }
    return [text for name, value in options.items() for text in (name, str(value))]


def pod_environment(environ: Mapping[str, str], redis: str | None) -> dict[str, str]:
    """The environment of a pod. A URL of Redis may hold a password: it is not for a command line."""
    return base_environment(environ) | ({REDIS_VARIABLE: redis} if redis else {})


def initialise_command(config: EffectivePool) -> list[str]:
    """Tells the store that the pool is new: an empty Redis is then not taken for one that lost its data."""
    command = [sys.executable, "-m", "agentpool_agent.store"]
    return [*command, "--pool-uid", config.uid, "--namespace", config.namespace, "--pool", config.name]
