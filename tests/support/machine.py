# SPDX-License-Identifier: Apache-2.0
"""What a cluster could leave behind on a machine, as sets that can be compared before and after."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

# Programs of a Kubernetes node, by what their process or command line is called.
PROGRAMS = ("containerd", "coredns", "etcd", "kube", "local-volumes", "pause", "runc")


@dataclass(frozen=True)
class Snapshot:
    """The machine at one moment."""

    processes: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    addresses: frozenset[str]
    firewall: frozenset[str]
    cgroups: frozenset[str]
    sysctls: frozenset[str]
    directories: frozenset[str]

    def left_since(self, before: Snapshot) -> dict[str, set[str]]:
        """What is different now, by kind; empty when nothing is."""
        differences = {
            one.name: set(getattr(self, one.name) ^ getattr(before, one.name)) for one in fields(self)
        }
        return {kind: found for kind, found in differences.items() if found}


def snapshot() -> Snapshot:
    """Look at this machine."""
    mountinfo = Path("/proc/self/mountinfo").read_text().splitlines()
    return Snapshot(
        processes=_processes(),
        mounts=frozenset(line.split()[4] for line in mountinfo),
        links=frozenset(os.listdir("/sys/class/net")),
        addresses=frozenset(_output("ip", "-o", "-4", "route", "show", "table", "all").splitlines()),
        firewall=frozenset(_rules("iptables-save") | _rules("ip6tables-save")),
        cgroups=frozenset(str(one) for one in Path("/sys/fs/cgroup").rglob("*") if one.is_dir()),
        sysctls=frozenset(_sysctls()),
        directories=frozenset(str(one) for one in _kept_directories() if one.exists()),
    )


def _processes() -> frozenset[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "comm").read_text().strip()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            continue
        # A zombie has ended: when it is reaped is up to the machine's init.
        if entry.name.isdigit() and state != "Z" and name.startswith(PROGRAMS):
            found.add(f"{entry.name} {name}")
    return frozenset(found)


def _rules(program: str) -> set[str]:
    lines = _output(program).splitlines()
    # Without counters, and without the built-in chains, which appear with the first look at a table.
    declared = {line.split()[0] for line in lines if line.startswith(":") and line.split()[1] == "-"}
    return declared | {line for line in lines if line.startswith("-")}


def _sysctls() -> set[str]:
    names = ("net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic")
    more = ("kernel/panic_on_oops", "kernel/keys/root_maxkeys", "net/ipv4/conf/all/route_localnet")
    return {f"{name}={Path('/proc/sys', name).read_text().strip()}" for name in (*names, *more)}


def _kept_directories() -> list[Path]:
    places = ("/run/netns", "/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods")
    return [Path(place) for place in (*places, "/var/lib/agentpool-devcluster", "/run/agentpool-devcluster")]


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
