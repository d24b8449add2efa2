# SPDX-License-Identifier: Apache-2.0
"""`agentpool doctor`: what is wrong with AgentPool in a cluster, and what to do about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict

import httpx

from agentpool_cli.cluster import findings
from agentpool_cli.cluster.findings import Finding, Level
from agentpool_cli.cluster.gateway import current_namespace, split_name
from agentpool_cli.cluster.kubectl import Kubectl
from agentpool_cli.connection import connected, kubectl_flags
from agentpool_cli.output import align, as_json, as_names, as_yaml
from agentpool_core.cluster import AGENT_NAME, API_VERSION, LABEL_NAME
from agentpool_core.errors import AgentPoolError, NotFound

RELEASE = "agentpool"
"""LABEL_NAME of what the chart installs."""
VERBS = ("get", "invoke")
"""Rights that an application needs."""
AUDITED = ("place", "pause", "terminate", "export", "import", "forget", "configure")
"""Rights whose use the gateway writes into its audit log."""
GATEWAY_SECONDS = 5.0


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print a line for each check; exit code 1 when there is a problem."""
    found = list(examine(Kubectl(kubectl_flags(options)), options, environ))
    sys.stdout.write(report(found, options.output))
    return 1 if any(one.level is Level.PROBLEM for one in found) else 0


def examine(kubectl: Kubectl, options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Finding]:
    """All checks, in the order in which problems follow from each other."""
    try:
        version = kubectl.json("get", "--raw", "/version").get("gitVersion")
    except AgentPoolError as exc:
        yield findings.problem("cluster", exc.message, exc.hint)
        return
    yield findings.ok("cluster", f"It answers; Kubernetes {version}.")
    scope = ["--namespace", options.namespace] if options.namespace else ["--all-namespaces"]
    yield from checked("definitions", lambda: findings.definitions(_discovery(kubectl)))
    chart = ("--all-namespaces", "--selector", f"{LABEL_NAME}={RELEASE}")
    yield from checked(
        "workloads", lambda: findings.workloads(kubectl.items("deployments,statefulsets", *chart))
    )
    selector = f"{LABEL_NAME} in ({RELEASE},{AGENT_NAME})"
    yield from checked("pods", lambda: findings.pods(kubectl.items("pods", *scope, "--selector", selector)))
    yield from checked("pools", lambda: findings.pools(kubectl.items("agentpools.agentpool.dev", *scope)))
    yield from checked("rights", lambda: _rights(kubectl, options))
    yield from checked("way to the gateway", lambda: _gateway(options, environ))


def checked(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; a check that cannot be made is told and ends nothing else."""
    try:
        yield from list(check())
    except AgentPoolError as exc:
        yield Finding(Level.UNKNOWN, subject, exc.message, exc.hint)


def report(found: list[Finding], form: str) -> str:
    """The findings in the wanted form."""
    if form in ("json", "yaml"):
        plain = [{name: str(value) for name, value in asdict(one).items()} for one in found]
        return as_json(plain) if form == "json" else as_yaml(plain)
    if form == "name":
        return as_names("problem", [one.subject for one in found if one.level is Level.PROBLEM])
    lines = []
    for one in found:
        lines.append([one.level.value, one.subject, one.text])
        if one.remedy:
            lines.append(["", "", f"-> {one.remedy}"])
    return align(lines)


def _discovery(kubectl: Kubectl) -> Mapping[str, object] | None:
    try:
        return kubectl.json("get", "--raw", f"/apis/{API_VERSION}")
    except NotFound:
        return None


def _rights(kubectl: Kubectl, options: argparse.Namespace) -> Iterator[Finding]:
    namespace = options.namespace or current_namespace(kubectl)
    who, impersonate = "kubectl's user", []
    if options.as_service_account:
        home, account = namespace, options.as_service_account
        if "/" in account:
            home, account = split_name(account, "--as-service-account")
        who = f"system:serviceaccount:{home}:{account}"
        impersonate = [f"--as={who}"]
    pool = f"agentpools.agentpool.dev/{options.pool}" if options.pool else "agentpools.agentpool.dev"
    where = ["--namespace", namespace]
    may = {verb: _may(kubectl, [verb, pool, *where, *impersonate]) for verb in (*VERBS, *AUDITED)}
    yield from findings.rights(who, namespace, {verb: may[verb] for verb in VERBS})
    yield findings.audited(who, namespace, {verb: may[verb] for verb in AUDITED})


def _may(kubectl: Kubectl, question: list[str]) -> bool | None:
    try:
        return kubectl.text("auth", "can-i", *question).strip() == "yes"
    except AgentPoolError as exc:
        # `no` is also an exit code of 1, with nothing on standard error but warnings.
        return False if exc.details.get("stdout") == "no" else None


def _gateway(options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Finding]:
    options.plugin = True
    with connected(options, environ) as connection:
        try:
            status = httpx.get(connection.url + "/readyz", timeout=GATEWAY_SECONDS).status_code
        except httpx.HTTPError as exc:
            yield findings.problem(
                "way to the gateway",
                f"Nothing answers at {connection.url}: {type(exc).__name__}.",
                "Correct --url or AGENTPOOL_URL; without them a port-forward is used.",
            )
            return
    if status == 200:
        yield findings.ok("way to the gateway", f"{connection.url} answers and is ready.")
    else:
        yield findings.problem(
            "way to the gateway",
            f"{connection.url}/readyz answers {status}.",
            "See the gateway's log: it says what it waits for.",
        )
