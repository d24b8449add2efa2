# SPDX-License-Identifier: Apache-2.0
"""What a host process is told at its start: flags first, then environment, then defaults."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1.forms import capability_name
from agentpool_core.lifecycle import Tier

MAX_CAPABILITIES = 32
"""Names that one host can be given: they travel with each of its reports."""


class Role(StrEnum):
    """How many instances a host takes."""

    SHARED = "Shared"
    """Many instances."""
    GENERIC = "Generic"
    """Exactly one; the pod is that instance's own from then on."""


DEFAULT_TIERS: Mapping[Role, tuple[Tier, ...]] = {
    Role.SHARED: (Tier.WARM,),
    Role.GENERIC: (Tier.HOT, Tier.COLD),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The start parameters of one host.

    Attributes:
        listen: `address:port` of the gRPC service; port 0 lets the system choose (see `address_file`).
        run_dir: directory of the zygote's socket; on a pod, the small volume both containers share.
        public_keys: PEM texts, newest first, that call tokens are checked against.
        capabilities: names that pools can choose hosts by, beside those that the host finds out itself.
        reserved_for: id of the only instance that this host takes; empty: any.
        redis_url: a secret; None keeps state in memory.
        config_file: initial EffectivePool as JSON; without it the host is Ready after `Configure`.
        metrics_port: HTTP port for Prometheus; 0: none.
        instance_metrics: whether to export a series per instance.
        drain_seconds: how long SIGTERM waits for requests under way.
        hang_seconds: a worker whose event loop is blocked for longer is ended.
        terminate_grace_seconds: how long a termination waits for the requests under way.
        address_file: where to write the bound address, for a port chosen by the system.
    """

    listen: str
    run_dir: Path
    public_keys: tuple[bytes, ...]
    pod: str = "local"
    pod_uid: str = ""
    namespace: str = "default"
    pool: str = ""
    role: Role = Role.SHARED
    tiers: tuple[Tier, ...] = (Tier.WARM,)
    capabilities: tuple[str, ...] = ()
    reserved_for: str = ""
    redis_url: str | None = field(default=None, repr=False)
    config_file: Path | None = None
    metrics_port: int = 0
    instance_metrics: bool = False
    drain_seconds: float = 100.0
    hang_seconds: float = 10.0
    terminate_grace_seconds: float = 30.0
    address_file: Path | None = None
    log_level: str = "INFO"
    log_pretty: bool = False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentpool-host", description="The host process of an agent pod.")
    option = parser.add_argument
    option("--listen", help="address:port of the gRPC service")
    option("--run-dir", help="directory of the zygote's socket")
    option("--public-key-file", action="append", help="public key of call tokens, PEM; newest first")
    option("--pod", help="name of the pod")
    option("--pod-uid", help="UID of the pod")
    option("--namespace", help="namespace of the pool")
    option("--pool", help="name of the pool")
    option("--role", choices=[role.value for role in Role])
    option("--tiers", help="tiers this host takes, with commas")
    option("--capabilities", help="names that pools can choose this host by, with commas")
    option("--reserved-for", help="id of the only instance this host takes")
    option("--redis-url-file", help="file with the store's URL")
    option("--config-file", help="effective configuration of the pool, JSON")
    option("--metrics-port", type=int)
    option("--instance-metrics", action="store_true", default=None, help="export a series per instance")
    option("--drain-seconds", type=float)
    option("--hang-seconds", type=float)
    option("--terminate-grace-seconds", type=float)
    option("--address-file", help="write the bound address there")
    option("--log-level")
    option("--log-pretty", action="store_true", default=None)
    return parser


def _public_keys(files: Sequence[str], text: str) -> tuple[bytes, ...]:
    if files:
        return tuple(Path(name).read_bytes() for name in files)
    end = "-----END PUBLIC KEY-----"
    return tuple(f"{part.strip()}\n{end}\n".encode() for part in text.split(end) if part.strip())


def _capabilities(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if len(names) > MAX_CAPABILITIES:
        raise ValueError(f"AGENTPOOL_CAPABILITIES has {len(names)} names: give {MAX_CAPABILITIES} at most")
    for name in names:
        try:
            capability_name(name)
        except BadValue as exc:
            raise ValueError(f"AGENTPOOL_CAPABILITIES: {exc}. {exc.remedy}") from exc
    return names


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of a process; raises ValueError that names the setting and its remedy."""
    args = {key: value for key, value in vars(_parser().parse_args(argv)).items() if value is not None}

    def text(name: str, default: str = "") -> str:
        return str(args.get(name, environ.get(f"AGENTPOOL_{name.upper()}", default)))

    role = Role(text("role", Role.SHARED))
    tiers = tuple(Tier(one.strip()) for one in text("tiers").split(",") if one.strip())
    keys = _public_keys(args.get("public_key_file", []), environ.get("AGENTPOOL_PUBLIC_KEYS", ""))
    if not keys:
        raise ValueError("no public key: give --public-key-file or AGENTPOOL_PUBLIC_KEYS")
    if not text("run_dir"):
        raise ValueError("no run directory: give --run-dir or AGENTPOOL_RUN_DIR")
    url_file = text("redis_url_file")
    url = Path(url_file).read_text().strip() if url_file else environ.get("AGENTPOOL_REDIS_URL", "")
    return Settings(
        listen=text("listen", "0.0.0.0:50051"),  # a pod serves its network
        run_dir=Path(text("run_dir")),
        public_keys=keys,
        pod=text("pod", "local"),
        pod_uid=text("pod_uid") or str(uuid.uuid4()),
        namespace=text("namespace", "default"),
        pool=text("pool"),
        role=role,
        tiers=tiers or DEFAULT_TIERS[role],
        capabilities=_capabilities(text("capabilities")),
        reserved_for=text("reserved_for"),
        redis_url=url or None,
        config_file=Path(text("config_file")) if text("config_file") else None,
        metrics_port=int(text("metrics_port", "0")),
        instance_metrics=text("instance_metrics").lower() in ("true", "1"),
        drain_seconds=float(text("drain_seconds", "100")),
        hang_seconds=float(text("hang_seconds", "10")),
        terminate_grace_seconds=float(text("terminate_grace_seconds", "30")),
        address_file=Path(text("address_file")) if text("address_file") else None,
        log_level=text("log_level", "INFO"),
        log_pretty=text("log_pretty").lower() in ("true", "1"),
    )
