# SPDX-License-Identifier: Apache-2.0
"""`agentpool flags`: list, set, roll back, delete."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from agentpool_cli.client import PoolClient
from agentpool_cli.connection import connected
from agentpool_cli.output import Column, as_json, as_names, as_yaml, table

Flag = Mapping[str, Any]


def list_flags(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print all flags."""
    with connected(options, environ) as connection, PoolClient(connection) as client:
        found = client.flags()
    sys.stdout.write(list_text(found, options.output))
    return 0


def set_flag(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Set one flag and print it."""
    whole, change = body_of(options)
    with connected(options, environ) as connection, PoolClient(connection) as client:
        flag = client.set_flag(options.name, whole) if whole else client.change_flag(options.name, change)
    sys.stdout.write(flag_text(flag, options.output))
    return 0


def rollback_flag(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Switch one flag off for everybody and print it."""
    with connected(options, environ) as connection, PoolClient(connection) as client:
        flag = client.change_flag(options.name, {"roll_back": True})
    sys.stdout.write(flag_text(flag, options.output))
    return 0


def delete_flag(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Forget one flag."""
    with connected(options, environ) as connection, PoolClient(connection) as client:
        client.delete_flag(options.name)
    if options.output == "name":
        sys.stdout.write(as_names("flag", [options.name]))
    return 0


def body_of(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole flag, or the change of it, that the options ask for; the other is empty."""
    if options.percentage is not None:
        return {}, {"percentage": options.percentage}
    if options.tenant is not None:
        return {}, {"enable_for_tenant": options.tenant}
    if options.ramp is not None:
        first, last, seconds = options.ramp
        schedule = {"from_percentage": first, "to_percentage": last, "duration_seconds": seconds}
        return {"strategy": "GRADUAL", "schedule": schedule}, {}
    projects = [{"tenant_id": tenant, "project_id": project} for tenant, project in options.list_project]
    return {"strategy": options.strategy, "tenants": options.list_tenant, "projects": projects}, {}


COLUMNS: Sequence[Column] = (
    Column("NAME", lambda flag: str(flag["name"])),
    Column("STRATEGY", lambda flag: str(flag["strategy"]) if flag["enabled"] else "disabled"),
    Column("SHARE", lambda flag: f"{flag['reached']:g} %"),
    Column("TENANTS", lambda flag: _listed(flag["tenants"])),
    Column("ORIGIN", lambda flag: str(flag["origin"])),
    Column("PROJECTS", lambda flag: str(len(flag["projects"])), wide=True),
)


def _listed(tenants: Sequence[str]) -> str:
    more = f" and {len(tenants) - 3} more" if len(tenants) > 3 else ""
    return ", ".join(tenants[:3]) + more


def list_text(flags: Sequence[Flag], form: str) -> str:
    """A list in the wanted form."""
    if form == "json":
        return as_json(list(flags))
    if form == "yaml":
        return as_yaml(list(flags))
    if form == "name":
        return as_names("flag", [str(flag["name"]) for flag in flags])
    return table(COLUMNS, flags, wide=form == "wide")


def flag_text(flag: Flag, form: str) -> str:
    """One flag in the wanted form."""
    if form == "json":
        return as_json(flag)
    return as_yaml(flag) if form == "yaml" else list_text([flag], form)
