# SPDX-License-Identifier: Apache-2.0
"""Where things lie. All of it is machine-wide, as the cluster's ports, bridge and cgroups are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Places:
    """Directories of one machine's cluster.

    `state` ends with the cluster, `run` ends with the machine's uptime, `cache` outlives both.
    """

    state: Path = Path("/var/lib/agentpool-devcluster")
    run: Path = Path("/run/agentpool-devcluster")
    cache: Path = Path("/var/cache/agentpool-devcluster")

    @property
    def lock(self) -> Path:
        # Outside `state`, which a reset removes while it holds the lock.
        return self.cache / "lock"

    @property
    def pids(self) -> Path:
        return self.run / "pids"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def containerd_root(self) -> Path:
        # In the cache: the imported images outlive the cluster, so the next one starts without imports.
        return self.cache / "containerd"

    @property
    def kubeconfig(self) -> Path:
        return self.config / "admin.kubeconfig"

    @property
    def by_products(self) -> tuple[Path, ...]:
        """Directories the programs make elsewhere, whatever they are told; removed when they are empty."""
        elsewhere = ("/var/lib/kubelet/device-plugins", "/var/lib/kubelet", "/var/log/containers")
        runtime = (
            "/run/containerd/runc/k8s.io",
            "/run/containerd/runc",
            "/run/containerd/s",
            "/run/containerd",
        )
        return tuple(Path(one) for one in (*elsewhere, "/var/lib/cni/results", "/var/lib/cni", *runtime))

    @property
    def owned(self) -> tuple[Path, ...]:
        """The directories below which every mount is the cluster's own."""
        return (self.state, self.run, self.cache)
