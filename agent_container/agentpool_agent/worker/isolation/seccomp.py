# SPDX-License-Identifier: Apache-2.0
"""The system calls a worker may not make, and the BPF program that refuses them.

The program is assembled here instruction by instruction; it needs no library. It refuses what reaches other
processes or the kernel's administration and lets everything else through: agents are ordinary Python
programs, and a list of what they may call would break with each library. A refused call fails with EPERM, so
that a library which tries one as an option goes on without it; `clone3` fails with ENOSYS, which makes the C
library fall back to `clone`, whose flags a filter can see.

    X86_64, AARCH64 --rules(policy)--> [Rule] --assemble--> [Instruction] --install--> the calling thread
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agentpool_agent.worker.isolation import syscalls


class Group(StrEnum):
    """Rules that guard against one kind of attack; each can be left out by a test."""

    SIGNALS = "seccomp-signals"
    MEMORY = "seccomp-memory"
    PROCESSES = "seccomp-processes"
    SOCKETS = "seccomp-sockets"
    SCHEDULING = "seccomp-scheduling"
    SHARED_MEMORY = "seccomp-shared-memory"
    KERNEL = "seccomp-kernel"


@dataclass(frozen=True, slots=True)
class Test:
    """Holds when `argument & mask == value`, on the lower 32 bits of the numbered argument."""

    argument: int
    value: int
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Rule:
    """Refuse a call. With `unless`: allow it when any of these tests holds. With `only`: refuse it only when
    any of these holds. A rule has at most one of the two."""

    group: Group
    call: str
    unless: tuple[Test, ...] = ()
    only: tuple[Test, ...] = ()
    error: int = errno.EPERM


@dataclass(frozen=True, slots=True)
class Policy:
    """What the rules depend on.

    Attributes:
        pid: the worker's own process id; it may signal itself.
        signals_scoped: the kernel keeps signals inside the worker's own processes (Landlock scope), so that a
            worker with subprocesses can be allowed to signal them.
    """

    pid: int
    network: bool = False
    subprocesses: bool = False
    signals_scoped: bool = False
    without: frozenset[Group] = frozenset()


@dataclass(frozen=True, slots=True)
class Instruction:
    """One `struct sock_filter`."""

    code: int
    jump_true: int
    jump_false: int
    operand: int

    def pack(self) -> bytes:
        """Eight bytes as the kernel reads them."""
        return struct.pack("=HBBI", self.code, self.jump_true, self.jump_false, self.operand)


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between processors: the audit constant and the numbers of the calls."""

    audit: int
    calls: Mapping[str, int]
    x32: bool = False
    """x86-64 kernels know a second set of numbers with bit 30 set; all of it is refused."""


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0xC000003E, syscalls.X86_64, x32=True),
    "aarch64": Machine(0xC00000B7, syscalls.AARCH64),
}

LOAD = 0x20
AND = 0x54
JUMP_EQUAL = 0x15
JUMP_GREATER_EQUAL = 0x35
RETURN = 0x06

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERROR = 0x00050000

_NUMBER_OFFSET = 0
_MACHINE_OFFSET = 4
_ARGUMENTS_OFFSET = 16
_X32_BIT = 0x40000000

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_TYPE_MASK = 1, 0xF
_F_SETOWN, _F_SETOWN_EX = 8, 15
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI = 0x8901, 0x8902, 0x5412

_MEMORY = """
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp move_pages
    migrate_pages pidfd_getfd
""".split()
_SHARED_MEMORY = """
    shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open
    mq_unlink memfd_create memfd_secret
""".split()
_KERNEL = """
    unshare setns mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount
    fspick mount_setattr open_by_handle_at name_to_handle_at keyctl add_key request_key bpf
    perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register fanotify_init
    init_module finit_module delete_module kexec_load reboot swapon swapoff acct quotactl syslog
""".split()


def rules(policy: Policy) -> list[Rule]:
    """What is refused under this policy, without the groups that it leaves out."""
    found = [
        *_signals(policy),
        *_processes(policy),
        *_sockets(policy),
        *_scheduling(policy),
        *(Rule(Group.MEMORY, call) for call in _MEMORY),
        *(Rule(Group.SHARED_MEMORY, call) for call in _SHARED_MEMORY),
        *(Rule(Group.KERNEL, call) for call in _KERNEL),
    ]
    return [rule for rule in found if rule.group not in policy.without]


def _signals(policy: Policy) -> Iterable[Rule]:
    own = (Test(0, policy.pid),)
    if not (policy.subprocesses and policy.signals_scoped):
        for call in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
            yield Rule(Group.SIGNALS, call, unless=own)
    yield Rule(Group.SIGNALS, "pidfd_open")
    yield Rule(Group.SIGNALS, "pidfd_send_signal")
    # The kernel signals a descriptor's owner when data arrives, with a signal of one's choice: kill by
    # another name.
    yield Rule(Group.SIGNALS, "fcntl", only=(Test(1, _F_SETOWN), Test(1, _F_SETOWN_EX)))
    yield Rule(Group.SIGNALS, "ioctl", only=(Test(1, _FIOSETOWN), Test(1, _SIOCSPGRP), Test(1, _TIOCSTI)))


def _processes(policy: Policy) -> Iterable[Rule]:
    yield Rule(Group.PROCESSES, "clone3", error=errno.ENOSYS)
    if policy.subprocesses:
        yield Rule(Group.PROCESSES, "clone", unless=(Test(0, 0, _CLONE_NAMESPACES),))
        return
    yield Rule(Group.PROCESSES, "clone", unless=(Test(0, _CLONE_THREAD, _CLONE_THREAD | _CLONE_NAMESPACES),))
    for call in ("fork", "vfork", "execve", "execveat"):
        yield Rule(Group.PROCESSES, call)


def _sockets(policy: Policy) -> Iterable[Rule]:
    families = (Test(0, _AF_INET), Test(0, _AF_INET6)) if policy.network else ()
    yield Rule(Group.SOCKETS, "socket", unless=families)
    # asyncio needs a pair of stream sockets; a pair of datagram sockets could send to any named socket.
    yield Rule(Group.SOCKETS, "socketpair", unless=(Test(1, _SOCK_STREAM, _SOCK_TYPE_MASK),))
    yield Rule(Group.SOCKETS, "bind")
    yield Rule(Group.SOCKETS, "listen")
    if not policy.network:
        yield Rule(Group.SOCKETS, "connect")


def _scheduling(policy: Policy) -> Iterable[Rule]:
    own = (Test(0, 0), Test(0, policy.pid))
    for call in ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        yield Rule(Group.SCHEDULING, call, unless=own)
    for call in ("setpriority", "ioprio_set"):
        yield Rule(Group.SCHEDULING, call, unless=(Test(1, 0), Test(1, policy.pid)))


def assemble(machine: Machine, wanted: Sequence[Rule]) -> list[Instruction]:
    """The program for a machine; rules for calls that it does not have are left out."""
    program = [
        Instruction(LOAD, 0, 0, _MACHINE_OFFSET),
        Instruction(JUMP_EQUAL, 1, 0, machine.audit),
        Instruction(RETURN, 0, 0, KILL_PROCESS),
        Instruction(LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if machine.x32:
        program += [
            Instruction(JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),
            Instruction(RETURN, 0, 0, ERROR | errno.ENOSYS),
        ]
    for rule in wanted:
        if (number := machine.calls.get(rule.call)) is not None:
            block = _block(rule)
            program += [Instruction(JUMP_EQUAL, 0, len(block), number), *block]
    return [*program, Instruction(RETURN, 0, 0, ALLOW)]


def _block(rule: Rule) -> list[Instruction]:
    # Each block ends in a return, so the accumulator still holds the call's number for the next rule.
    refuse, allow = ERROR | rule.error, ALLOW
    hit, miss = (refuse, allow) if rule.only else (allow, refuse)
    block: list[Instruction] = []
    for test in rule.only or rule.unless:
        block += [
            Instruction(LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * test.argument),
            Instruction(AND, 0, 0, test.mask),
            Instruction(JUMP_EQUAL, 0, 1, test.value),
            Instruction(RETURN, 0, 0, hit),
        ]
    return [*block, Instruction(RETURN, 0, 0, miss)]
