# SPDX-License-Identifier: Apache-2.0
"""What the cluster changes in this machine's kernel and takes back: bridge, mounts, cgroups, sysctls."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from tools.devcluster import topology as t
from tools.devcluster.problem import Problem
from tools.devcluster.processes import end
from tools.devcluster.shell import find, run, succeeds

CGROUPS = Path("/sys/fs/cgroup")
POD_CPU_SHARES = 8192
"""CPU weight of all pods together, against 1024 for each busy thread of the node's daemons."""
# The controllers a kubelet uses.
CONTROLLERS = frozenset({"cpu", "cpuset", "hugetlb", "io", "memory", "pids"})
SYSCTL_ROOT = Path("/proc/sys")
# What the cluster needs.
SYSCTLS_SET = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
# What kubelet and kube-proxy set by themselves; saved and restored with ours.
SYSCTLS_TOUCHED = (
    *SYSCTLS_SET,
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# Built in or loaded on most machines; loading one that is there does nothing.
MODULES = ("overlay", "br_netfilter")


def load_modules() -> None:
    """Load the kernel's modules the cluster needs; the preflight sees what is missing then."""
    if find("modprobe") is not None:
        for module in MODULES:
            succeeds(["modprobe", "--quiet", module])


def ensure_bridge() -> None:
    """The pod bridge, with its address: the API server and DNS listen on it before the first pod is there."""
    if not Path("/sys/class/net", t.BRIDGE).exists():
        # With an address of its own: else it takes its smallest member's and changes as pods come and go.
        run(["ip", "link", "add", "name", t.BRIDGE, "address", "0a:58:0a:f4:00:01", "type", "bridge"])
    run(["ip", "address", "replace", f"{t.NODE_ADDRESS}/{t.NODE_PREFIX}", "dev", t.BRIDGE])
    run(["ip", "link", "set", t.BRIDGE, "up"])


def bridge_is_up() -> bool:
    """Whether the bridge is there with its address."""
    if not Path("/sys/class/net", t.BRIDGE).exists():
        return False
    return f" {t.NODE_ADDRESS}/{t.NODE_PREFIX} " in run(
        ["ip", "-o", "-4", "address", "show", "dev", t.BRIDGE]
    )


def remove_links() -> None:
    """The bridge and every interface that is plugged into it; the pods' ends go with theirs."""
    if not Path("/sys/class/net", t.BRIDGE).exists():
        return
    for line in run(["ip", "-o", "link", "show", "master", t.BRIDGE]).splitlines():
        run(["ip", "link", "delete", link_name(line)])
    run(["ip", "link", "delete", t.BRIDGE])


def link_name(line: str) -> str:
    """The interface of a line of `ip -o link`: `7: veth1@if2: <UP> ...` is veth1."""
    return line.split(":")[1].strip().partition("@")[0]


def mounts_below(mountinfo: str, directories: Sequence[Path]) -> list[str]:
    """The mount points of a /proc/PID/mountinfo below the directories, the last mounted first."""
    points = [_unescaped(line.split()[4]) for line in mountinfo.splitlines() if line]
    return [
        point for point in reversed(points) if any(Path(point).is_relative_to(one) for one in directories)
    ]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def unmount_below(directories: Sequence[Path]) -> None:
    """Unmount everything below the directories. Raises `Problem` when something stays mounted."""
    for point in mounts_below(Path("/proc/self/mountinfo").read_text(), directories):
        if not succeeds(["umount", point]):
            # Busy: detached now, gone with its last user.
            run(["umount", "--lazy", point])
    left = mounts_below(Path("/proc/self/mountinfo").read_text(), directories)
    if left:
        raise Problem(f"{left[0]} stays mounted", f"find who uses it: `fuser -vm {left[0]}`")


def cgroup_hierarchies(mountinfo: str) -> list[Path]:
    """Where cgroup hierarchies are mounted: one per controller with version 1, one in all with version 2."""
    hierarchies = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ")[0] in ("cgroup", "cgroup2"):
            hierarchies.append(Path(left.split()[4]))
    return hierarchies


def _own_cgroups() -> list[Path]:
    hierarchies = cgroup_hierarchies(Path("/proc/self/mountinfo").read_text())
    return [hierarchy / t.CGROUP.lstrip("/") for hierarchy in hierarchies]


def ensure_cgroups() -> None:
    """The cgroup the kubelet puts pods below; it wants it in every hierarchy before it starts."""
    for own in _own_cgroups():
        own.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 starts a cpuset with no processor and no memory, where nothing can run.
            if (own / setting).exists() and not (own / setting).read_text().strip():
                (own / setting).write_text((own.parent / setting).read_text())
        _weigh(own)
        _delegate(own)


def _weigh(own: Path) -> None:
    """Give pods together the weight they have on a node whose daemons share a slice.

    Here the daemons run in the root cgroup, where each of their threads weighs as much as a whole cgroup with
    the default of 1024; a few busy ones would starve whatever serves requests in pods.
    """
    shares = own / "cpu.shares"
    if shares.exists():
        shares.write_text(str(POD_CPU_SHARES))


def _delegate(own: Path) -> None:
    """With version 2, let the kubelet use the controllers below our cgroup."""
    offered = own.parent / "cgroup.controllers"
    if not offered.exists():
        return
    wanted = [f"+{name}" for name in offered.read_text().split() if name in CONTROLLERS]
    try:
        for directory in (own.parent, own) if wanted else ():
            (directory / "cgroup.subtree_control").write_text(" ".join(wanted))
    except OSError as error:
        remedy = "in a container, start it with a cgroup namespace of its own whose root holds no process"
        raise Problem(f"cgroup controllers cannot be passed on: {error}", remedy) from error


def processes_in_cgroups() -> list[int]:
    """Every process of a pod, by the cgroups that are ours."""
    found: set[int] = set()
    for own in _own_cgroups():
        for listing in own.rglob("cgroup.procs"):
            found.update(int(pid) for pid in listing.read_text().split() if pid != "0")
    return sorted(found)


def remove_cgroups() -> None:
    """End what still runs in our cgroups and remove them."""
    end(processes_in_cgroups(), grace_seconds=0)
    for own in _own_cgroups():
        if not own.exists():
            continue
        directories = sorted((path for path in own.rglob("*") if path.is_dir()), reverse=True)
        for directory in [*directories, own]:
            directory.rmdir()


def set_sysctls(saved: Path) -> None:
    """Set what the cluster needs; what was there before goes into the file `saved`, once."""
    if not saved.exists():
        saved.parent.mkdir(parents=True, exist_ok=True)
        before = {name: (SYSCTL_ROOT / name) for name in SYSCTLS_TOUCHED}
        values = {name: path.read_text().strip() for name, path in before.items() if path.exists()}
        saved.write_text(json.dumps(values))
    for name, value in SYSCTLS_SET.items():
        path = SYSCTL_ROOT / name
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)


def restore_sysctls(saved: Path) -> None:
    """Set everything back that `set_sysctls` wrote down."""
    if not saved.exists():
        return
    for name, value in json.loads(saved.read_text()).items():
        path = SYSCTL_ROOT / name
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)
    saved.unlink()


def remove_empty(directories: Sequence[Path]) -> None:
    """Remove those directories that are there and empty, but for sockets nobody listens on any more."""
    for directory in directories:
        for entry in directory.glob("*.sock"):
            if not _listened_on(entry):
                entry.unlink()
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == 0
