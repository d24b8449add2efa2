# SPDX-License-Identifier: Apache-2.0
"""`agentpool status`: health and statistics of a pool."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from agentpool_cli.client import PoolClient
from agentpool_cli.connection import connected
from agentpool_cli.output import NOTHING, align, as_json, as_names, as_yaml

UNHEALTHY = 1
HEALTHY = "Healthy"
"""Every host of the pool is ready."""


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the pool's health and statistics; exit code 1 when it is not healthy."""
    with connected(options, environ) as connection, PoolClient(connection) as client:
        health = client.health()
        stats = client.stats()
    sys.stdout.write(status_text(health, stats, options.output))
    return 0 if is_healthy(health) else UNHEALTHY


def is_healthy(health: Mapping[str, Any]) -> bool:
    """Whether the gateway calls the pool healthy."""
    return health.get("status") == HEALTHY


def status_text(health: Mapping[str, Any], stats: Mapping[str, Any], form: str) -> str:
    """Health and statistics in the wanted form."""
    both = {"health": dict(health), "stats": dict(stats)}
    if form == "json":
        return as_json(both)
    if form == "yaml":
        return as_yaml(both)
    if form == "name":
        return as_names("pool", [pool_name(stats)])
    text = align(list(summary(health, stats)))
    hosts = stats.get("hosts") or []
    if form == "wide" and hosts:
        text += "\n" + align(_host_cells(hosts))
    return text


def summary(health: Mapping[str, Any], stats: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a person wants to know first, as names and values."""
    lines = [
        ("Pool", pool_name(stats)),
        ("Health", str(health.get("status") or NOTHING)),
        ("Instances", _counts(stats, ("total", "available", "busy", "paused"))),
        ("By tier", _pairs(stats.get("per_tier"))),
        ("Requests", f"{stats.get('total_operations_processed', 0)}"),
        ("Mean time", f"{stats.get('average_operation_time_ms', 0.0):.1f} ms"),
        ("Found resident", f"{stats.get('pool_hit_rate', 1.0):.0%}"),
        ("Succeeded", f"{stats.get('success_rate', 1.0):.1%}"),
        ("Waiting", f"{stats.get('queue_depth', 0)}"),
        (
            "Created, ended",
            f"{stats.get('total_agents_created', 0)}, {stats.get('total_agents_destroyed', 0)}",
        ),
        ("Hosts", str(len(stats.get("hosts") or []))),
    ]
    return lines + [("Problem", str(problem)) for problem in health.get("problems") or []]


def pool_name(stats: Mapping[str, Any]) -> str:
    """Namespace and name."""
    return f"{stats.get('namespace', NOTHING)}/{stats.get('pool', NOTHING)}"


def _counts(stats: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return ", ".join(f"{stats.get(name, 0)} {name}" for name in names)


def _pairs(counts: Any) -> str:
    if not isinstance(counts, Mapping):
        return NOTHING
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or NOTHING


def _host_cells(hosts: list[Mapping[str, Any]]) -> list[list[str]]:
    cells = [["HOST", "READY", "RESIDENT", "CAPACITY", "ACTIVE", "WAITING", "MEAN", "SUCCEEDED"]]
    for host in hosts:
        ready = "draining" if host.get("draining") else str(host.get("ready", NOTHING)).lower()
        cells.append(
            [str(host.get("pod", NOTHING)), ready]
            + [str(host.get(name, NOTHING)) for name in ("resident", "capacity", "active_requests")]
            + _load_cells(host.get("load"))
        )
    return cells


def _load_cells(load: Any) -> list[str]:
    if not isinstance(load, Mapping):
        return [NOTHING] * 3
    mean, rate = load.get("average_response_time_ms", 0.0), load.get("success_rate", 1.0)
    return [str(load.get("queue_length", 0)), f"{mean:.1f} ms", f"{rate:.1%}"]
