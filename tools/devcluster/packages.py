# SPDX-License-Identifier: Apache-2.0
"""Programs from the distribution's packages. None of them is left running as a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools.devcluster.console import step
from tools.devcluster.problem import Exit, Problem
from tools.devcluster.shell import find, run, succeeds

# What the cluster itself calls, by program, and the Debian package that brings it.
CLUSTER_PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables-save": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "openssl": "openssl",
    "mount": "mount",
}
IMAGE_PROGRAMS: Mapping[str, str] = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
CNI_PACKAGE = "containernetworking-plugins"
# Debian's package, then where the project's own releases go.
CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")

# dpkg asks this script whether a package may start its service; 101 says no.
POLICY = Path("/usr/sbin/policy-rc.d")


def cni_directory() -> Path | None:
    """The directory that has every CNI plugin the cluster uses."""
    for directory in CNI_DIRECTORIES:
        if all((directory / plugin).exists() for plugin in CNI_PLUGINS):
            return directory
    return None


def missing(programs: Mapping[str, str]) -> dict[str, str]:
    """The programs that are not on this machine, with their packages."""
    return {program: package for program, package in programs.items() if find(program) is None}


def missing_for_cluster() -> dict[str, str]:
    """What the cluster lacks on this machine, with the packages that bring it."""
    plugins = {} if cni_directory() else {"CNI plugins": CNI_PACKAGE}
    return {**missing(CLUSTER_PROGRAMS), **plugins}


def install(wanted: Mapping[str, str]) -> None:
    """Install the packages of the missing programs with apt.

    Raises `Problem` with `NO_CLUSTER` where there is no apt: nothing else on this machine can bring them.
    """
    if not wanted:
        return
    names = sorted(set(wanted.values()))
    if find("apt-get") is None:
        lacking = ", ".join(sorted(wanted))
        remedy = f"install them yourself (Debian's packages are called {', '.join(names)}) and try again"
        raise Problem(f"missing: {lacking}; this machine has no apt to install them", remedy, Exit.NO_CLUSTER)
    remedy = "see that the machine's package sources answer (`apt-get update`), then try again"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {', '.join(names)}"), _services_stay_off(brings_containerd="containerd" in names):
        run(["apt-get", "update", "-qq"], timeout_seconds=300, env=quiet, remedy=remedy)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names]
        run(command, timeout_seconds=900, env=quiet, remedy=remedy)


@contextmanager
def _services_stay_off(*, brings_containerd: bool) -> Iterator[None]:
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
    if brings_containerd and find("systemctl") is not None:
        # Newly installed, so nobody else uses it: it need not start with the machine either.
        succeeds(["systemctl", "disable", "containerd.service"])
