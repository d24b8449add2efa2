# SPDX-License-Identifier: Apache-2.0
"""The gateway's settings: a YAML file, overruled by the environment, overruled by arguments.

An environment variable is the setting's name in capitals after `AGENTPOOL_GATEWAY_`, an argument the name
with dashes; `auth` and `kubernetes` are set in the file only, apart from the mode of auth (`auth_mode`).
"""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agentpool_core.cluster import AUDIENCE

ENVIRONMENT_PREFIX = "AGENTPOOL_GATEWAY_"


class SettingsError(ValueError):
    """The settings are wrong; the text names each field and says why."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolVerb(StrEnum):
    """What an application may do with a pool."""

    INVOKE = "invoke"
    """Send requests."""
    GET = "get"
    """Read stats, health, metrics and instances."""
    PAUSE = "pause"
    """Pause and resume instances."""
    TERMINATE = "terminate"
    """End instances and erase their state."""
    PLACE = "place"
    """Choose the tier of an instance."""
    EXPORT = "export"
    """Take copies of the saved state of instances."""
    IMPORT = "import"
    """Give instances a state."""
    FORGET = "forget"
    """Erase everything of a tenant."""
    CONFIGURE = "configure"
    """Set feature flags."""


class Issuer(_Strict):
    """Whose tokens are accepted. Exactly one of `jwks_url` and `jwks_file` is given."""

    issuer: str = Field(min_length=1)
    audience: str = Field(default=AUDIENCE, min_length=1)
    jwks_url: str | None = None
    jwks_file: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give exactly one of jwks_url and jwks_file")
        if self.jwks_url is not None and not self.jwks_url.startswith(("https://", "http://")):
            raise ValueError("jwks_url must start with https:// or http://")
        return self


class Grant(_Strict):
    """A right: who (`subject`), where (`namespace`, `pool`), what (`verbs`), for whom (`tenants`).

    All names but verbs are shell patterns (`*`, `?`). Without `tenants` the subject acts for every tenant.
    """

    subject: str = Field(min_length=1)
    namespace: str = "*"
    pool: str = "*"
    verbs: tuple[PoolVerb, ...] = Field(min_length=1)
    tenants: tuple[str, ...] | None = None


class AuthMode(StrEnum):
    """How callers are known."""

    JWT = "jwt"
    """By a token of one of `issuers`, or of the cluster."""
    INSECURE = "insecure"
    """Everybody may do everything: for trials on one machine."""


class AuthSettings(_Strict):
    """Identity and rights of callers."""

    mode: AuthMode = AuthMode.JWT
    issuers: tuple[Issuer, ...] = ()
    cluster_issuer: bool = False
    """Take the ServiceAccount tokens of the cluster in `kubernetes`."""
    audience: str = Field(default=AUDIENCE, min_length=1)
    """Audience of the cluster's ServiceAccount tokens."""
    grants: tuple[Grant, ...] = ()
    """Rights of callers; with `kubernetes` the cluster is asked instead, by access reviews."""
    tenant_binding: bool = False
    """Also ask the cluster whether the caller may `invoke` the `agentpools/tenants` named `pool:tenant`."""
    allow_insecure_remote: bool = False
    """Let mode insecure listen on addresses that other machines reach."""


class KubernetesSettings(_Strict):
    """The cluster whose pools are served."""

    namespaces: tuple[str, ...] = ()
    """Namespaces that pools may be in; empty: all, which takes cluster-wide rights."""
    kubeconfig: Path | None = None
    """Instead of the ServiceAccount of the pod, or of KUBECONFIG outside of one."""
    context: str | None = None
    """Context of the kubeconfig; default: its current one."""


class Settings(_Strict):
    """Everything the gateway is told at its start."""

    http_listen: str = "127.0.0.1:8000"
    grpc_listen: str = "127.0.0.1:9000"
    call_token_key_file: Path
    """Ed25519 private key, PEM: what proves the gateway to hosts."""
    membership_file: Path | None = None
    """Pools and hosts, YAML or JSON; read again when it changes."""
    kubernetes: KubernetesSettings | None = None
    """Instead of membership_file: pools and hosts are those of a cluster, rights are its RBAC's."""
    default_pool: str | None = None
    """`namespace/name` of the pool behind /api/v1/pool."""
    auth: AuthSettings = AuthSettings()
    direct_access: bool = False
    """Give leases, with which applications send requests to hosts themselves; they have to reach them."""
    instance_series: bool = False
    """Export memory and CPU per instance: one series each."""
    max_in_flight: int = Field(default=2000, ge=1)
    """Requests worked on at one time; further ones get 503 at once."""
    max_pending: int = Field(default=500, ge=1)
    """Requests at one time that have arrived and that no host has accepted yet: the largest burst. Under load
    the gateway finds a lower limit by itself; further requests get 503 at once."""
    min_pending: int = Field(default=64, ge=1)
    """The lowest limit that it finds: what a few dozen callers without pauses have under way is no flood."""
    target_delay_seconds: float = Field(default=0.005, gt=0, le=10)
    """How long even the quickest requests may take to their hosts before it looks for a lower one."""
    shutdown_delay_seconds: float = Field(default=0.0, ge=0, le=60)
    """How long after SIGTERM new requests are still taken while readiness says no, for load balancers that
    ask for it; the chart has the kubelet wait instead."""
    shutdown_grace_seconds: float = Field(default=20.0, ge=0, le=3600)
    """How long requests in flight may take to end after SIGTERM."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_pretty: bool = False

    @field_validator("http_listen", "grpc_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("default_pool")
    @classmethod
    def _pool(cls, value: str | None) -> str | None:
        if value is not None and (value.count("/") != 1 or not all(value.split("/"))):
            raise ValueError("must be namespace/name")
        return value

    @model_validator(mode="after")
    def _one_membership(self) -> Self:
        if (self.membership_file is None) == (self.kubernetes is None):
            raise ValueError("give exactly one of membership_file and kubernetes")
        if self.kubernetes is None:
            for name in ("cluster_issuer", "tenant_binding"):
                if getattr(self.auth, name):
                    raise ValueError(f"auth.{name} needs kubernetes: it asks the cluster")
        elif self.auth.grants:
            raise ValueError("auth.grants is for membership_file; in a cluster, rights are given by RBAC")
        return self

    @model_validator(mode="after")
    def _insecure_stays_here(self) -> Self:
        if self.auth.mode is AuthMode.INSECURE and not self.auth.allow_insecure_remote:
            for name in ("http_listen", "grpc_listen"):
                if not is_loopback(split_address(getattr(self, name))[0]):
                    raise ValueError(
                        f"auth.mode insecure with {name} {getattr(self, name)} would let every machine in; "
                        "listen on 127.0.0.1, use auth.mode jwt, or set auth.allow_insecure_remote"
                    )
        if self.auth.mode is AuthMode.JWT and not self.auth.issuers and not self.auth.cluster_issuer:
            raise ValueError(
                "auth.mode jwt needs auth.issuers or auth.cluster_issuer: nobody could call otherwise"
            )
        return self


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port` in two; ValueError when it is neither."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"must be host:port, not {address!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_FLAT = tuple(name for name in Settings.model_fields if name not in ("auth", "kubernetes"))


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of this process; SettingsError names what is wrong and where."""
    arguments = vars(_parser().parse_args(argv))
    path = arguments.pop("settings") or environ.get(ENVIRONMENT_PREFIX + "SETTINGS")
    values = _read(Path(path)) if path else {}
    for name in (*_FLAT, "auth_mode"):
        given = arguments[name]
        if given is None:
            given = environ.get(ENVIRONMENT_PREFIX + name.upper())
        if given is None:
            continue
        if name == "auth_mode":
            values["auth"] = {**(values.get("auth") or {}), "mode": given}
        else:
            values[name] = given
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        raise SettingsError(_explain(exc)) from exc


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentpool-gateway", description=__doc__)
    parser.add_argument("--settings", help="YAML file with the settings")
    for name in (*_FLAT, "auth_mode"):
        parser.add_argument("--" + name.replace("_", "-"), dest=name)
    return parser


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as exc:
        raise SettingsError(f"settings file {path}: {exc}") from exc
    if not isinstance(values, dict):
        raise SettingsError(f"settings file {path}: must be a mapping")
    return values


def _explain(error: ValidationError) -> str:
    lines = []
    for one in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in one["loc"]) or "settings"
        lines.append(f"{where}: {one['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
