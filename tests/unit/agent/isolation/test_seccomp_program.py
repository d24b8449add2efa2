# SPDX-License-Identifier: Apache-2.0
"""What the assembled seccomp program answers, by running it."""

from __future__ import annotations

import errno
import struct

import pytest

from agentpool_agent.worker.isolation import seccomp
from agentpool_agent.worker.isolation.seccomp import ALLOW, ERROR, KILL_PROCESS, MACHINES, Group, Policy

PID = 1234
EPERM = ERROR | errno.EPERM
ENOSYS = ERROR | errno.ENOSYS


def run(program: list[seccomp.Instruction], data: bytes) -> int:
    """The kernel's interpreter, as far as the program needs it."""
    at, accumulator = 0, 0
    while True:
        step = program[at]
        at += 1
        match step.code:
            case seccomp.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, step.operand)
            case seccomp.AND:
                accumulator &= step.operand
            case seccomp.JUMP_EQUAL:
                at += step.jump_true if accumulator == step.operand else step.jump_false
            case seccomp.JUMP_GREATER_EQUAL:
                at += step.jump_true if accumulator >= step.operand else step.jump_false
            case seccomp.RETURN:
                return step.operand
            case _:
                raise AssertionError(step)


def verdict(machine: str, call: int | str, *arguments: int, policy: Policy | None = None) -> int:
    target = MACHINES[machine]
    number = target.calls[call] if isinstance(call, str) else call
    given = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("=IIQ6Q", number, target.audit, 0, *given)
    return run(seccomp.assemble(target, seccomp.rules(policy or Policy(PID))), data)


CLONE_THREAD = 0x10000
CASES = [
    pytest.param("kill", (PID, 9), ALLOW, id="a worker may signal itself"),
    pytest.param("kill", (PID + 1, 9), EPERM, id="no other process"),
    pytest.param("kill", (0, 9), EPERM, id="not its group"),
    pytest.param("kill", (-1, 9), EPERM, id="not everybody"),
    pytest.param("kill", (PID + (1 << 32), 9), ALLOW, id="the kernel reads 32 bits of a pid"),
    pytest.param("tgkill", (PID, 99, 9), ALLOW, id="its own threads"),
    pytest.param("fcntl", (3, 8, 77), EPERM, id="no owner of a descriptor"),
    pytest.param("fcntl", (3, 4, 0), ALLOW, id="other descriptor flags"),
    pytest.param("ioctl", (3, 0x5412, 0), EPERM, id="no typing into terminals"),
    pytest.param("ioctl", (3, 0x5421, 0), ALLOW, id="other device control"),
    pytest.param("clone", (CLONE_THREAD | 0x3D0F00,), ALLOW, id="threads"),
    pytest.param("clone", (17,), EPERM, id="no processes"),
    pytest.param("clone", (CLONE_THREAD | 0x10000000,), EPERM, id="no user namespaces"),
    pytest.param("clone3", (), ENOSYS, id="clone3 does not exist"),
    pytest.param("execve", (), EPERM, id="no programs"),
    pytest.param("socket", (1, 1), EPERM, id="no Unix sockets"),
    pytest.param("socket", (2, 1), EPERM, id="no internet sockets"),
    pytest.param("socketpair", (1, 1 | 0x80000), ALLOW, id="pairs of stream sockets"),
    pytest.param("socketpair", (1, 2), EPERM, id="no pairs of datagram sockets"),
    pytest.param("prlimit64", (0, 7), ALLOW, id="its own limits"),
    pytest.param("prlimit64", (PID + 1, 7), EPERM, id="nobody else's limits"),
    pytest.param("setpriority", (0, PID + 1, 19), EPERM, id="nobody else's priority"),
    pytest.param("ptrace", (16, PID + 1), EPERM, id="no tracing"),
    pytest.param("memfd_create", (), EPERM, id="no anonymous files"),
    pytest.param("io_uring_setup", (), EPERM, id="no io_uring"),
    pytest.param(9999, (), ALLOW, id="calls that nobody knows"),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("call", "arguments", "answer"), CASES)
def test_the_program_answers(machine: str, call: str | int, arguments: tuple[int, ...], answer: int) -> None:
    assert verdict(machine, call, *arguments) == answer


@pytest.mark.parametrize(
    ("policy", "call", "arguments", "answer"),
    [
        pytest.param(Policy(PID, network=True), "socket", (10, 1), ALLOW, id="network allows IPv6"),
        pytest.param(Policy(PID, network=True), "connect", (3,), ALLOW, id="network allows connecting"),
        pytest.param(Policy(PID, network=True), "bind", (3,), EPERM, id="network opens no port"),
        pytest.param(Policy(PID, network=True), "socket", (16, 3), EPERM, id="network gives no netlink"),
        pytest.param(Policy(PID, subprocesses=True), "execve", (), ALLOW, id="subprocesses allow programs"),
        pytest.param(
            Policy(PID, subprocesses=True), "clone", (17,), ALLOW, id="subprocesses allow processes"
        ),
        pytest.param(
            Policy(PID, subprocesses=True), "clone", (0x10000011,), EPERM, id="subprocesses give no namespace"
        ),
        pytest.param(
            Policy(PID, subprocesses=True), "kill", (7, 9), EPERM, id="no signals where none are scoped"
        ),
        pytest.param(
            Policy(PID, subprocesses=True, signals_scoped=True), "kill", (7, 9), ALLOW, id="scoped signals"
        ),
        pytest.param(
            Policy(PID, without=frozenset({Group.MEMORY})), "ptrace", (16,), ALLOW, id="a group left out"
        ),
    ],
)
def test_a_policy_changes(policy: Policy, call: str, arguments: tuple[int, ...], answer: int) -> None:
    assert verdict("x86_64", call, *arguments, policy=policy) == answer


def test_another_machines_calls_end_the_process() -> None:
    data = struct.pack("=IIQ6Q", 0, MACHINES["aarch64"].audit, 0, *[0] * 6)
    program = seccomp.assemble(MACHINES["x86_64"], seccomp.rules(Policy(PID)))
    assert run(program, data) == KILL_PROCESS


def test_the_second_set_of_call_numbers_of_x86_does_not_exist() -> None:
    assert verdict("x86_64", 0x40000000 | 101) == ENOSYS


def test_every_call_has_one_rule() -> None:
    calls = [rule.call for rule in seccomp.rules(Policy(PID))]
    assert len(calls) == len(set(calls))
    assert set(calls) <= set(MACHINES["x86_64"].calls)


def test_an_instruction_is_eight_bytes_as_the_kernel_reads_them() -> None:
    assert seccomp.Instruction(0x15, 1, 2, 0x04030201).pack() == bytes([0x15, 0, 1, 2, 1, 2, 3, 4])
