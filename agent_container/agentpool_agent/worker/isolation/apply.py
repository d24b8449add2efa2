# SPDX-License-Identifier: Apache-2.0
"""Everything that keeps one worker from the others, in the order in which it must be put on.

at the fork    secure_process: not dumpable, dies with the zygote, no new privileges, no capabilities
at the Assign  apply_isolation: limits, Landlock, and last the seccomp filter, which would refuse the rest
"""

from __future__ import annotations

import functools
import os
import signal
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from agentpool_agent.authoring import Isolation
from agentpool_agent.wire.frames import Limits
from agentpool_agent.worker.isolation import kernel, landlock, seccomp
from agentpool_agent.worker.isolation import limits as rlimits

PROCESS_GUARDS = ("not-dumpable", "no-new-privileges", "no-capabilities")
LANDLOCK_FILES = "landlock-files"
LANDLOCK_NETWORK = "landlock-network"
LANDLOCK_SCOPES = "landlock-scopes"
LANDLOCK_SINCE = {LANDLOCK_FILES: 1, LANDLOCK_NETWORK: 4, LANDLOCK_SCOPES: 6}
"""The Landlock ABI that brought each guard."""

_PID_MARK = 0x5EC0C0DE
"""Stands for the worker's process id in the program that all workers share; above any real one."""

MEASURED_GUARDS = ("watch-memory", "watch-threads")
"""Enforced by the zygote, which looks at each worker about once a second."""

_SYSTEM_FILES = (
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf",
    "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/localtime",
    "/etc/ld.so.cache", "/usr/share", "/dev/urandom", "/dev/random", "/dev/zero", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/self",
)  # fmt: skip
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_PROGRAMS = ("/bin", "/usr/bin", "/usr/local/bin")


@dataclass(slots=True)
class Report:
    """Guards in force and guards missing with the reason, as they are put on."""

    guards: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def attempt(self, names: Iterable[str], off: frozenset[str], put_on: Callable[[], object]) -> None:
        """Put a guard on and note how that went. A kernel that refuses is noted, not raised: whether the
        instance may run with less is the pool's decision (`isolation.required`), made by the host."""
        named = [name for name in names if name not in off]
        self.missing.update({name: "left out by a test" for name in names if name in off})
        if not named:
            return
        try:
            put_on()
        except (OSError, ValueError) as exc:
            self.missing.update({name: str(exc) for name in named})
        else:
            self.guards.extend(named)

    def frozen(self) -> Isolation:
        """The report as a value."""
        return Isolation(tuple(self.guards), dict(self.missing))


def secure_process(report: Report, off: frozenset[str] = frozenset()) -> None:
    """Put on what needs no instance: called in the child at once after the fork."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    report.attempt(["not-dumpable"], off, lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 0))
    report.attempt(["no-new-privileges"], off, lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    report.attempt(["no-capabilities"], off, kernel.drop_capabilities)


@dataclass(slots=True)
class Prepared:
    """The Landlock ruleset and the seccomp program of one worker, built before it is assigned, because that
    is the longest part and needs only to know what nearly every pool allows: neither network nor
    subprocesses."""

    network: bool
    subprocesses: bool
    landlock_guards: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    """Landlock guards that cannot be had, with the reason."""
    ruleset: int | None = None
    program: bytes = b""

    def close(self) -> None:
        """Give the ruleset's descriptor back."""
        if self.ruleset is not None:
            os.close(self.ruleset)
            self.ruleset = None


def prepare(
    directory: Path, off: frozenset[str] = frozenset(), *, network: bool = False, subprocesses: bool = False
) -> Prepared:
    """Build what `apply_isolation` puts on; see there for `off`."""
    prepared = Prepared(network, subprocesses)
    _prepare_landlock(prepared, directory, off)
    groups = frozenset(group for group in seccomp.Group if group in off)
    scoped = LANDLOCK_SCOPES in prepared.landlock_guards
    template = _program(seccomp.Policy(_PID_MARK, network, subprocesses, scoped, groups))
    prepared.program = template.replace(_packed(_PID_MARK), _packed(os.getpid()))
    return prepared


def apply_isolation(
    limits: Limits, prepared: Prepared, data_at_fork: int, report: Report, off: frozenset[str] = frozenset()
) -> None:
    """Put the instance's limits and guards on this single-threaded process, irrevocably.

    Args:
        limits: what the pool allows.
        prepared: made for the same network and subprocesses as the limits; it is closed.
        data_at_fork: VmData when the worker was forked, in bytes.
        off: guards to leave out, so that a test can show what each one is good for; nothing else passes any.
    """
    for name, which, value in rlimits.wanted(limits, data_at_fork):
        report.attempt([name], off, lambda which=which, value=value: rlimits.set_limit(which, value))  # type: ignore[misc]
    report.missing.update(prepared.refused)
    if prepared.ruleset is not None:
        ruleset = prepared.ruleset
        report.attempt(prepared.landlock_guards, off, lambda: kernel.landlock_restrict(ruleset))
    prepared.close()
    report.attempt([str(group) for group in seccomp.Group], off, lambda: _install(prepared.program))


def probe(limits: Limits | None = None) -> Isolation:
    """The guards that a worker here will have, and the missing ones with the reason; puts none on."""
    report = Report()
    report.guards += [*PROCESS_GUARDS, *(name for name, _, _ in rlimits.wanted(limits or Limits(0), 0))]
    report.guards += MEASURED_GUARDS
    abi, reason = _landlock_abi()
    for name, since in LANDLOCK_SINCE.items():
        report.attempt([name], frozenset(), lambda since=since: _need(abi, since, reason))  # type: ignore[misc]
    report.attempt([str(group) for group in seccomp.Group], frozenset(), _seccomp_available)
    return report.frozen()


@functools.cache
def readable_paths(subprocesses: bool) -> tuple[Path, ...]:
    """The interpreter, the code and the system files that a worker may read."""
    code = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *sys.path]
    roots = [Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib", *map(Path, code)]
    programs = [*map(Path, _PROGRAMS), Path(sys.prefix) / "bin"] if subprocesses else []
    found = [*roots, *map(Path, (*_LIBRARIES, *_SYSTEM_FILES)), *programs]
    # A relative entry or the root itself in sys.path would open far more than code.
    return tuple(dict.fromkeys(path for path in found if path.is_absolute() and path != Path("/")))


def _prepare_landlock(prepared: Prepared, directory: Path, off: frozenset[str]) -> None:
    abi, reason = _landlock_abi()
    on: list[str] = []
    for name, since in LANDLOCK_SINCE.items():
        if name in off:
            prepared.refused[name] = "left out by a test"
        elif abi < since:
            prepared.refused[name] = reason or f"needs Landlock ABI {since}, this kernel has {abi}"
        else:
            on.append(name)
    tcp = landlock.BIND_TCP | (0 if prepared.network else landlock.CONNECT_TCP)
    ruleset = landlock.Ruleset(
        files=landlock.file_rights(abi) if LANDLOCK_FILES in on else 0,
        network=tcp if LANDLOCK_NETWORK in on else 0,
        scopes=landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_SOCKET if LANDLOCK_SCOPES in on else 0,
    )
    if not on:
        return
    paths = landlock.Paths(readable_paths(prepared.subprocesses), (directory,), prepared.subprocesses)
    try:
        prepared.ruleset = landlock.build(ruleset, paths)
        prepared.landlock_guards = tuple(on)
    except OSError as exc:
        prepared.refused.update({name: str(exc) for name in on})


def _landlock_abi() -> tuple[int, str]:
    try:
        return kernel.landlock_version(), ""
    except OSError as exc:
        return 0, f"this kernel has no Landlock: {exc}"


def _need(abi: int, since: int, reason: str) -> None:
    if abi < since:
        raise OSError(reason or f"needs Landlock ABI {since}, this kernel has {abi}")


@functools.cache
def _program(policy: seccomp.Policy) -> bytes:
    """The packed program, assembled once by the zygote for all workers; empty where there is no table."""
    machine = seccomp.MACHINES.get(kernel.machine())
    if machine is None:
        return b""
    return b"".join(instruction.pack() for instruction in seccomp.assemble(machine, seccomp.rules(policy)))


def _packed(operand: int) -> bytes:
    return struct.pack("=I", operand)


def _seccomp_available() -> None:
    if kernel.machine() not in seccomp.MACHINES:
        raise OSError(f"no seccomp table for {kernel.machine()}")
    kernel.prctl(kernel.PR_GET_SECCOMP)


def _install(program: bytes) -> None:
    if not program:
        raise OSError(f"no seccomp table for {kernel.machine()}")
    kernel.install_filter(program)
