# SPDX-License-Identifier: Apache-2.0
"""`agentpool instances`: list, show, pause, resume, delete."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentpool_cli.client import PoolClient
from agentpool_cli.connection import connected
from agentpool_cli.output import Column, ago, as_json, as_names, as_yaml, megabytes, table

Instance = Mapping[str, Any]


def list_instances(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print all instances that match the filters."""
    filters = {"tenant_id": options.tenant, "project_id": options.project}
    filters |= {"tier": options.tier, "state": options.state}
    with connected(options, environ) as connection, PoolClient(connection) as client:
        found = list(client.instances({name: value for name, value in filters.items() if value}))
    sys.stdout.write(list_text(found, options.output, datetime.now(UTC)))
    if not found and options.output in ("table", "wide"):
        sys.stderr.write("No instances. The first request of a tenant and project makes one.\n")
    return 0


def get_instance(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print one instance."""
    return _one(options, environ, PoolClient.instance)


def pause_instance(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Pause one instance and print it."""
    return _one(options, environ, PoolClient.pause)


def resume_instance(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Resume one instance and print it."""
    return _one(options, environ, PoolClient.resume)


def move_instance(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Give one instance another tier and print it."""
    return _one(options, environ, lambda client, instance_id: client.move(instance_id, options.tier))


def delete_instance(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """End one instance, erase its state, and print what became of it."""
    return _one(options, environ, PoolClient.delete)


def _one(
    options: argparse.Namespace,
    environ: Mapping[str, str],
    call: Callable[[PoolClient, str], dict[str, Any]],
) -> int:
    with connected(options, environ) as connection, PoolClient(connection) as client:
        instance = call(client, options.id)
    sys.stdout.write(instance_text(instance, options.output, datetime.now(UTC)))
    return 0


def columns(now: datetime) -> Sequence[Column]:
    """The columns of the list."""

    def text(name: str) -> Callable[[Instance], str]:
        return lambda instance: str(instance.get(name) or "")

    return (
        Column("ID", text("id")),
        Column("TENANT", text("tenant_id")),
        Column("PROJECT", text("project_id")),
        Column("TIER", text("tier")),
        Column("STATE", _state),
        Column("POD", text("pod")),
        Column("USED", lambda instance: ago(instance.get("last_used_at"), now)),
        Column("REQUESTS", text("total_requests"), wide=True),
        Column("MEMORY", lambda instance: megabytes(instance.get("memory_bytes") or 0), wide=True),
        Column("EPOCH", text("epoch"), wide=True),
        Column("ORIGIN", text("origin"), wide=True),
        Column("RECOVERY", _recovery, wide=True),
    )


def _recovery(instance: Instance) -> str:
    found = instance.get("recovery")
    return f"{found['strategy']} ({found['cause']})" if found else ""


def _state(instance: Instance) -> str:
    state, reason = str(instance.get("state") or ""), instance.get("reason")
    return f"{state} ({reason})" if reason else state


def list_text(instances: Sequence[Instance], form: str, now: datetime) -> str:
    """A list in the wanted form."""
    if form == "json":
        return as_json(list(instances))
    if form == "yaml":
        return as_yaml(list(instances))
    if form == "name":
        return as_names("instance", [str(instance["id"]) for instance in instances])
    return table(columns(now), instances, wide=form == "wide") if instances else ""


def instance_text(instance: Instance, form: str, now: datetime) -> str:
    """One instance in the wanted form."""
    if form == "json":
        return as_json(instance)
    if form == "yaml":
        return as_yaml(instance)
    return list_text([instance], form, now)
