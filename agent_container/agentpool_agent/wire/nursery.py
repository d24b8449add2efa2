# SPDX-License-Identifier: Apache-2.0
"""Messages between the host and the zygote, over a Unix SOCK_SEQPACKET socket in the pod's small volume.

The host listens and accepts one zygote; it listens again only when that one ended. A message is one packet
of msgpack. `Spawned` carries the worker's socket as a file descriptor (SCM_RIGHTS). When the host ends, the
zygote kills its workers and ends; when the zygote ends, its workers end with it.
"""

from __future__ import annotations

import msgspec

PROTOCOL = 1
"""Raised when host and zygote of different builds no longer understand each other."""

MAX_PACKET_BYTES = 64 * 1024


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of the zygote: the agent is imported and workers can be forked."""

    protocol: int
    entrypoint: str
    uid: int
    guards: list[str]
    """Isolation guards that a worker forked here will have."""
    missing: dict[str, str]
    """Guards that cannot be had here, with the reason."""
    revision: str = ""
    """Changes when the code that the agent was imported from does."""


class ImportFailed(msgspec.Struct, frozen=True, tag="import-failed"):
    """First and last message of a zygote that cannot import the agent, or may not fork after it."""

    message: str


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Host: fork `count` more workers."""

    count: int


class Spawned(msgspec.Struct, frozen=True, tag="spawned"):
    """Zygote: a worker waits for its Assign on the socket that comes with this packet."""

    worker: int
    pid: int


class CannotFork(msgspec.Struct, frozen=True, tag="cannot-fork"):
    """Zygote: a worker that was asked for could not be made. It tries again by itself; this says why there
    are none meanwhile."""

    message: str


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """Host: end this worker now (SIGKILL); Exited follows."""

    worker: int


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """Zygote: a worker ended. `status`: exit code, or minus the signal's number. `reason` is set when the
    zygote itself ended it ("memory", "threads", "requested")."""

    worker: int
    status: int
    reason: str = ""


ZYGOTE = 0
"""Number of the zygote itself among samples; workers count from 1."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """What one worker uses: private memory in bytes, CPU seconds since its start, threads. That of the zygote
    has the memory which workers share with it."""

    worker: int
    memory_bytes: int
    cpu_seconds: float
    threads: int


class Usage(msgspec.Struct, frozen=True, tag="usage"):
    """Zygote, every few seconds, in as many packets as are needed."""

    samples: list[Sample]


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """Host: limits for a worker that the zygote enforces by measurement (it can see /proc, the host
    cannot): over its memory or threads it is killed, over its CPU it is slowed down."""

    worker: int
    memory_bytes: int
    threads: int
    cpu_millis: int = 0
    """Thousandths of a core; 0: no limit."""


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Host: say at once how these workers came to a core; `Efforts` is the answer."""

    workers: list[int]


class Effort(msgspec.Struct, frozen=True, array_like=True):
    """Seconds that a worker has computed since its start, and that it was ready to and waited for a core."""

    worker: int
    computed: float
    waited: float


class Efforts(msgspec.Struct, frozen=True, tag="efforts"):
    """Zygote: those that it could look at, `at` a time of its monotonic clock in seconds."""

    at: float
    efforts: list[Effort]


ToHost = Hello | ImportFailed | Spawned | CannotFork | Exited | Usage | Efforts
ToZygote = Spawn | Kill | Watch | Look

encoder = msgspec.msgpack.Encoder()
to_host_decoder: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)
to_zygote_decoder: msgspec.msgpack.Decoder[ToZygote] = msgspec.msgpack.Decoder(ToZygote)
