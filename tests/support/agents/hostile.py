# SPDX-License-Identifier: Apache-2.0
"""An agent that attacks what its input names and answers what came of it: "done", or the error's name."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from agentpool_agent import Answer, Context, Event, Request

_libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
CLONE_FILES = 0x400


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _signal(target: Any) -> None:
    os.kill(target["pid"], signal.SIGCONT)


def _sigio(target: Any) -> None:
    import fcntl

    fcntl.fcntl(0, fcntl.F_SETOWN, target["pid"])


def _ptrace(target: Any) -> None:
    _checked(_libc.ptrace(PTRACE_SEIZE, target["pid"], None, None))


def _read_vm(target: Any) -> None:
    space = ctypes.create_string_buffer(16)
    local = _Vector(ctypes.addressof(space), 16)
    remote = _Vector(target["address"], 16)
    _checked(_libc.process_vm_readv(target["pid"], ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))


def _read_mem(target: Any) -> None:
    with open(f"/proc/{target['pid']}/mem", "rb") as memory:
        memory.seek(target["address"])
        memory.read(16)


def _environ(target: Any) -> None:
    Path(f"/proc/{target['pid']}/environ").read_bytes()


def _read(target: Any) -> None:
    Path(target["path"]).read_bytes()


def _write(target: Any) -> None:
    Path(target["path"]).write_bytes(b"was here")


def _fork(target: Any) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _exec(target: Any) -> None:
    subprocess.run(["/bin/true"], check=True)


def _unix(target: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(target["path"])


def _datagram_pair(target: Any) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.sendto(b"hello", target["path"])


def _tcp(target: Any) -> None:
    socket.create_connection(("127.0.0.1", target["port"]), 2).close()


def _udp(target: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", ("127.0.0.1", target["port"]))


def _bind(target: Any) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", target["port"]))
        sock.listen()


def _prlimit(target: Any) -> None:
    resource.prlimit(target["pid"], resource.RLIMIT_CORE, (0, 0))


def _renice(target: Any) -> None:
    os.setpriority(os.PRIO_PROCESS, target["pid"], 19)


def _shared_memory(target: Any) -> None:
    os.close(os.memfd_create("hidden"))


def _unshare(target: Any) -> None:
    _checked(_libc.unshare(CLONE_FILES))


ATTACKS: Mapping[str, Callable[[Any], None]] = {
    "signal": _signal, "sigio": _sigio, "ptrace": _ptrace, "read-vm": _read_vm,
    "read-mem": _read_mem, "environ": _environ, "read": _read, "write": _write, "fork": _fork, "exec": _exec,
    "unix": _unix, "datagram-pair": _datagram_pair, "tcp": _tcp, "udp": _udp, "bind": _bind,
    "prlimit": _prlimit, "renice": _renice, "shared-memory": _shared_memory, "unshare": _unshare,
}  # fmt: skip


class Hostile:
    """Input: {"attack": name, ...target}. The same addresses are in every worker: they are forked twins."""

    secret = ctypes.create_string_buffer(b"the neighbour's secret")

    async def setup(self, context: Context) -> None:
        """Nothing to make ready."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        context.unchanged()
        target = {"address": ctypes.addressof(self.secret), **request.input}
        try:
            ATTACKS[target["attack"]](target)
        except OSError as exc:
            yield Answer(type(exc).__name__ if exc.errno is None else os.strerror(exc.errno))
        except Exception as exc:
            yield Answer(type(exc).__name__)
        else:
            yield Answer("done")

    def snapshot(self) -> Mapping[str, bytes]:
        """No state."""
        return {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """No state."""
