# SPDX-License-Identifier: Apache-2.0
"""What the operator is told at its start: environment variables, with defaults."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from agentpool_core.cluster import (
    OPERATOR_HEALTH_PORT,
    OPERATOR_METRICS_PORT,
    REDIS_ADMIN_SECRET,
)
from agentpool_core.config import VARIABLES

PREFIX = "AGENTPOOL_OPERATOR_"


@dataclass(frozen=True, slots=True)
class Settings:
    """The start parameters.

    Attributes:
        namespace: of the release: Lease, call-token Secret, Redis Secret.
        watch_namespaces: to look after; empty: all.
        identity: of this candidate for leadership, unique in the cluster.
        agent_image: of pools that name none.
        redis_address: `host:port` of the release's own Redis: its administrator's Secret is made when it is
            missing; empty: that Secret is the user's.
        resync_seconds: time between two full looks.
        lease_seconds: how long a lost leader keeps others waiting.
        workers: reconciles at once.
        health_interval_seconds, health_timeout_seconds: how often the operator checks itself, and how long
            its queue may stand still before it says that it is not well.
        tracing_endpoint: where agent pods send traces, OTLP over gRPC; empty: nowhere.
        tracing_sample_ratio: share of traces that begin at an agent pod and are kept.
        tracing_identities: whether spans say whose request it is.
        pool_environ: the variables of pools (A74, A76).
    """

    namespace: str
    watch_namespaces: tuple[str, ...] = ()
    identity: str = ""
    agent_image: str = ""
    agent_pull_policy: str = "IfNotPresent"
    redis_secret: str = REDIS_ADMIN_SECRET
    redis_address: str = ""
    lease_name: str = "agentpool-operator"
    resync_seconds: float = 300.0
    lease_seconds: float = 15.0
    workers: int = 8
    health_port: int = OPERATOR_HEALTH_PORT
    metrics_port: int = OPERATOR_METRICS_PORT
    health_interval_seconds: float = 30.0
    health_timeout_seconds: float = 10.0
    log_level: str = "INFO"
    log_pretty: bool = False
    agent_log_level: str = "INFO"
    tracing_endpoint: str = ""
    tracing_sample_ratio: float = 1.0
    tracing_identities: bool = False
    pool_environ: Mapping[str, str] | None = None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of a process; raises ValueError that names the variable and its remedy."""

    def text(name: str, default: str = "") -> str:
        return environ.get(PREFIX + name, "").strip() or default

    def number(name: str, default: float, least: float) -> float:
        return _number(PREFIX + name, text(name), default, least)

    namespace = text("NAMESPACE")
    if not namespace:
        raise ValueError(f"{PREFIX}NAMESPACE is not set; give it the release's namespace")
    image = text("AGENT_IMAGE")
    if not image:
        raise ValueError(f"{PREFIX}AGENT_IMAGE is not set; give it the image of agent pods")
    watched = tuple(one.strip() for one in text("WATCH_NAMESPACES").split(",") if one.strip())
    return Settings(
        namespace=namespace,
        watch_namespaces=watched,
        identity=f"{text('POD', socket.gethostname())}_{os.urandom(4).hex()}",
        agent_image=image,
        agent_pull_policy=_pull_policy(text("AGENT_PULL_POLICY", "IfNotPresent")),
        redis_secret=text("REDIS_SECRET", REDIS_ADMIN_SECRET),
        redis_address=text("REDIS_ADDRESS"),
        lease_name=text("LEASE_NAME", "agentpool-operator"),
        resync_seconds=number("RESYNC_SECONDS", 300.0, 1.0),
        lease_seconds=number("LEASE_SECONDS", 15.0, 3.0),
        workers=int(number("WORKERS", 8, 1)),
        health_port=int(number("HEALTH_PORT", OPERATOR_HEALTH_PORT, 0)),
        metrics_port=int(number("METRICS_PORT", OPERATOR_METRICS_PORT, 0)),
        health_interval_seconds=_number(*_health(environ, "INTERVAL"), default=30.0, least=1.0),
        health_timeout_seconds=_number(*_health(environ, "TIMEOUT"), default=10.0, least=1.0),
        log_level=text("LOG_LEVEL", "INFO"),
        log_pretty=text("LOG_PRETTY").lower() in ("true", "1"),
        agent_log_level=text("AGENT_LOG_LEVEL", "INFO"),
        tracing_endpoint=text("TRACING_ENDPOINT"),
        tracing_sample_ratio=number("TRACING_SAMPLE_RATIO", 1.0, 0.0),
        tracing_identities=text("TRACING_IDENTITIES").lower() in ("true", "1"),
        pool_environ={name: environ[name] for name in VARIABLES if environ.get(name)},
    )


def _pull_policy(given: str) -> str:
    if given not in ("Always", "IfNotPresent", "Never"):
        raise ValueError(f"{PREFIX}AGENT_PULL_POLICY is {given!r}; give Always, IfNotPresent or Never")
    return given


def tracing_environment(settings: Settings) -> Mapping[str, str]:
    """The variables by which a host makes traces; none where they are off."""
    if not settings.tracing_endpoint:
        return {}
    found = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": settings.tracing_endpoint,
        # A request that came by a gateway is kept if the gateway keeps it.
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{settings.tracing_sample_ratio:g}",
    }
    return found | ({"AGENTPOOL_TRACE_IDENTITIES": "true"} if settings.tracing_identities else {})


def _health(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    variable = f"AGENT_POOL_HEALTH_CHECK_{name}"
    return variable, environ.get(variable, "").strip()


def _number(variable: str, text: str, default: float, least: float) -> float:
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not value >= least:
        raise ValueError(f"{variable} is {text!r}; give a number from {least:g} up or unset it ({default:g})")
    return value
