# SPDX-License-Identifier: Apache-2.0
"""Files of one run: keys, configuration, settings of the gateway, list of pods."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentpool_cli.dev.ports import LOOPBACK
from agentpool_core.config import EffectivePool
from agentpool_core.errors import InvalidRequest
from agentpool_rpc.tokens import generate_keypair


@dataclass(frozen=True, slots=True)
class PodPlace:
    """Where one pod of this run is."""

    name: str
    uid: str
    port: int

    @property
    def address(self) -> str:
        """Where its host listens."""
        return f"{LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run.

    Attributes:
        shared: temporary directory of what hosts need. As root they run as other users, who pass through it
            and see only what is theirs. Its short path leaves room for the sockets' names.
        private: directory of what only this program and the gateway may read.
    """

    shared: Path
    private: Path

    @classmethod
    def open(cls, state_dir: str | None) -> RunDirectory:
        """Make the directories. Raises InvalidRequest when `state_dir` cannot be made."""
        shared = Path(tempfile.mkdtemp(prefix="agentpool-"))
        private = shared / "private" if state_dir is None else Path(state_dir).resolve()
        try:
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            shared.rmdir()
            raise InvalidRequest(
                f"The directory {private} cannot be made: {exc.strerror}.", remedy="Correct --state-dir."
            ) from exc
        shared.chmod(0o711)
        return cls(shared, private)

    def close(self) -> None:
        """Remove the temporary part."""
        shutil.rmtree(self.shared, ignore_errors=True)

    @property
    def private_key(self) -> Path:
        """What proves the gateway and this program to the hosts."""
        return self.private / "call-token.pem"

    @property
    def public_key(self) -> Path:
        """What hosts check call tokens with."""
        return self.shared / "call-token.pub.pem"

    @property
    def pool_file(self) -> Path:
        """The effective configuration that a starting host reads."""
        return self.shared / "pool.json"

    @property
    def membership_file(self) -> Path:
        """The gateway's list of pools and hosts."""
        return self.private / "membership.json"

    @property
    def gateway_file(self) -> Path:
        """The gateway's settings."""
        return self.private / "gateway.json"

    @property
    def processes_file(self) -> Path:
        """Process ids by part, for tools and tests."""
        return self.private / "processes.json"

    def pod_directory(self, name: str) -> Path:
        """The run directory of one pod."""
        return self.shared / name

    def write_keys(self) -> bytes:
        """Draw a new key pair; returns the private one."""
        private, public = generate_keypair()
        write(self.private_key, private, 0o600)
        write(self.public_key, public, 0o644)
        return private

    def write_pool(self, config: EffectivePool) -> None:
        """Write the configuration for hosts that start later."""
        write(self.pool_file, config.model_dump_json(indent=2).encode(), 0o644)

    def write_membership(self, config: EffectivePool, pods: Iterable[PodPlace]) -> None:
        """Tell the gateway which pods there are."""
        hosts = [{"pod": pod.name, "pod_uid": pod.uid, "address": pod.address} for pod in pods]
        entry = {"config": config.model_dump(mode="json"), "hosts": hosts}
        write(self.membership_file, json.dumps({"pools": [entry]}, indent=2).encode(), 0o600)

    def write_gateway(self, config: EffectivePool, rest_port: int, grpc_port: int) -> None:
        """Write the gateway's settings; it reads them once, at its start."""
        settings = gateway_settings(self, config, rest_port, grpc_port)
        write(self.gateway_file, json.dumps(settings, indent=2).encode(), 0o600)

    def write_processes(self, processes: Mapping[str, Any]) -> None:
        """Say which processes and ports this run has."""
        write(self.processes_file, json.dumps(processes, indent=2).encode(), 0o644)


def gateway_settings(
    run: RunDirectory, config: EffectivePool, rest_port: int, grpc_port: int
) -> dict[str, Any]:
    """Settings of a gateway for a trial on this machine: loopback only, everybody may do everything."""
    return {
        "http_listen": f"{LOOPBACK}:{rest_port}",
        "grpc_listen": f"{LOOPBACK}:{grpc_port}",
        "call_token_key_file": str(run.private_key),
        "membership_file": str(run.membership_file),
        "default_pool": f"{config.namespace}/{config.name}",
        "auth": {"mode": "insecure"},
        # Whoever reaches the gateway here reaches the hosts, too.
        "direct_access": True,
        "shutdown_grace_seconds": 5,
    }


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    temporary.replace(path)


def app_directories(manifest: Path, given: Sequence[str] | None) -> list[Path]:
    """Where the agent's code is: the given directories, or the manifest's own. Raises InvalidRequest."""
    paths = [Path(one).resolve() for one in given or ()] or [manifest.parent]
    for path in paths:
        if not path.is_dir():
            raise InvalidRequest(f"{path} is not a directory.", remedy="Correct --app-dir.")
    return paths
