# SPDX-License-Identifier: Apache-2.0
"""`agentpool forget`: erase everything of a tenant."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from agentpool_cli.client import PoolClient
from agentpool_cli.connection import connected, kubectl_flags, uses_cluster
from agentpool_cli.output import as_json, as_yaml
from agentpool_core.errors import AgentPoolError, InvalidRequest

ROUND_SECONDS = 15.0
"""Of one call, so that progress is seen in between."""

Result = Mapping[str, Any]


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Erase until nothing is left or the deadline is over; exit code 1 when something is left."""
    if not options.yes:
        confirm(options.tenant)
    in_cluster = uses_cluster(options, environ)
    with connected(options, environ) as connection, PoolClient(connection) as client:
        result = erase(
            lambda seconds: client.forget(options.tenant, seconds),
            options.timeout,
            time.monotonic,
            sys.stderr.write,
        )
    names = names_of_declared(options) if in_cluster and result["declared"] else {}
    sys.stdout.write(report(result, names, options.output))
    return 0 if result["complete"] else 1


def confirm(tenant: str) -> None:
    """Have the user type the tenant's id; InvalidRequest when nobody is there or it is another one."""
    if not sys.stdin.isatty():
        raise InvalidRequest("Nobody is there to be asked.", remedy="Give --yes to erase without a question.")
    sys.stderr.write(f"All state of tenant {tenant} is erased for good. Its id, to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().rstrip("\n") != tenant:
        raise InvalidRequest("That is not the tenant's id; nothing was erased.", remedy="Type it as given.")


def erase(
    call: Callable[[float], Result],
    seconds: float,
    clock: Callable[[], float],
    tell: Callable[[str], object],
) -> Result:
    """Ask until nothing is left that can be erased, or time is up; the last answer with the whole count."""
    deadline = clock() + seconds
    erased = 0
    while True:
        left = max(deadline - clock(), 0.1)
        result = call(min(ROUND_SECONDS, left))
        erased += result["erased"]
        if not result["remaining"] or clock() >= deadline:
            return {**result, "erased": erased}
        tell(f"{erased} erased, {result['remaining']} left, {result['busy']} of them busy\n")


def names_of_declared(options: argparse.Namespace) -> dict[str, str]:
    """`namespace/name` of the cluster's AgentInstances by UID, as far as they can be read."""
    # Needs processes and patterns that calls of a named gateway need not load.
    from agentpool_cli.cluster.kubectl import Kubectl

    try:
        items = Kubectl(kubectl_flags(options)).items("agentinstances.agentpool.dev", "--all-namespaces")
    except AgentPoolError:
        return {}
    found = [item["metadata"] for item in items]
    return {one["uid"]: f"{one['namespace']}/{one['name']}" for one in found}


def report(result: Result, names: Mapping[str, str], form: str) -> str:
    """What became of the tenant in the wanted form."""
    if form in ("json", "yaml"):
        return as_json(result) if form == "json" else as_yaml(dict(result))
    lines = [f"tenant {result['tenant_id']}: {result['erased']} instances erased"]
    if result["declared_count"]:
        lines.append(
            f"{result['declared_count']} are declared; delete their AgentInstances, then run it again:"
        )
        lines += [f"  {_command(one, names)}" for one in result["declared"]]
    if result["busy"]:
        lines.append(f"{result['busy']} are busy and end with their last request; run it again")
    lines += [f"failed: {one['id']} ({one['code']}): {one['detail']}" for one in result["failed"]]
    return "\n".join(lines) + "\n"


def _command(declared: Mapping[str, str], names: Mapping[str, str]) -> str:
    found = names.get(declared["declared_uid"])
    if found is None:
        return f"the AgentInstance with UID {declared['declared_uid']}, project {declared['project_id']}"
    namespace, _, name = found.partition("/")
    return f"kubectl delete agentinstance --namespace {namespace} {name}"
