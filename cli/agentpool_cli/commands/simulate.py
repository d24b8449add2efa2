# SPDX-License-Identifier: Apache-2.0
"""`agentpool simulate`: the policy of automatic scaling on a trace of arrivals, without a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from agentpool_cli.simulation.model import Shape, simulate
from agentpool_cli.simulation.report import outcome, tables
from agentpool_cli.simulation.trace import read_trace
from agentpool_core.api import AgentPool, load_manifests
from agentpool_core.config import ForecastConfig, ScalingConfig, resolve
from agentpool_core.errors import InvalidRequest

TARGET_SERVICES = 5.0
"""Without a target of the pool: so many times the mean time of the trace's longest requests."""


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print what the policy does with and without forecast."""
    trace = read_trace(_read(options.trace), options.trace)
    policy = _policy(options.pool, environ)
    shape = Shape(options.slots, options.service_ms / 1000, options.start_seconds, options.seed)
    longest = max(span.service_seconds or shape.service_seconds for span in trace.spans)
    target = (policy.target_latency_milliseconds or 0.0) / 1000 or TARGET_SERVICES * longest
    policies = {"without forecast": _with(policy, forecast=False)}
    if not options.no_forecast:
        policies = {"with forecast": _with(policy, forecast=True), **policies}
    runs = {name: simulate(trace, one, shape) for name, one in policies.items()}
    outcomes = {name: outcome(trace, looks, target) for name, looks in runs.items()}
    sys.stdout.write(tables(trace, runs, outcomes, target))
    return 0


def _with(policy: ScalingConfig, *, forecast: bool) -> ScalingConfig:
    horizon = policy.forecast.horizon_seconds
    changed = {"forecast": ForecastConfig(enabled=forecast, horizon_seconds=horizon), "enabled": True}
    return policy.model_copy(update=changed)


def _policy(name: str | None, environ: Mapping[str, str]) -> ScalingConfig:
    if name is None:
        return ScalingConfig()
    pools = [one for one in load_manifests(_read(name)) if isinstance(one, AgentPool)]
    if len(pools) != 1:
        remedy = "Give a file with one AgentPool."
        raise InvalidRequest(f"{name} holds {len(pools)} AgentPools.", remedy=remedy)
    return resolve(pools[0], environ, uid="", generation=0).scaling


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        remedy = "Give the path of a text file."
        raise InvalidRequest(f"{name} cannot be read: {exc}.", remedy=remedy) from exc
