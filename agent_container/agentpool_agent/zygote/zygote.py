# SPDX-License-Identifier: Apache-2.0
"""The zygote's loop: forks workers, watches them, ends them, reports their ends.

Plain synchronous code on one thread, because it forks: no event loop, no locks, no threads to inherit.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agentpool_agent.authoring import Agent
from agentpool_agent.wire.nursery import (
    ZYGOTE,
    CannotFork,
    Effort,
    Efforts,
    Exited,
    Kill,
    Look,
    Sample,
    Spawn,
    Spawned,
    ToZygote,
    Usage,
    Watch,
)
from agentpool_agent.worker.launch import Birth, live
from agentpool_agent.zygote import directories, procfs
from agentpool_agent.zygote.nursery import HostGone, HostLink
from agentpool_agent.zygote.shares import TURN_SECONDS, CpuShare

LOOK_SECONDS = 1.0
"""Each worker is looked at about this often: it can be over its limits by what it takes in this time."""

LOOK_WORKERS = 100
"""At most so many at once, so that a look at a thousand does not delay a fork."""

USAGE_SECONDS = 5.0
USAGE_SAMPLES = 1000
"""Samples in one packet: well below MAX_PACKET_BYTES."""

MAX_PENDING_FORKS = 4096
FORK_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Nursling:
    """One living worker.

    Attributes:
        at_fork_bytes: anonymous memory that it shares with the zygote since its fork.
        share: its share of CPU; None: it has no limit.
        reason: why the zygote ended it, or empty.
    """

    worker: int
    pid: int
    directory: Path
    at_fork_bytes: int
    limits: Watch | None = None
    sample: Sample | None = None
    share: CpuShare | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Offspring:
    """How workers are made."""

    make_agent: Callable[[], Agent]
    directory: Path
    off: frozenset[str] = field(default=frozenset())


def verdict(limits: Watch, sample: Sample) -> str:
    """The limit that a worker is over ("memory", "threads"), or empty. Pure."""
    if sample.memory_bytes > limits.memory_bytes:
        return "memory"
    if sample.threads > limits.threads:
        return "threads"
    return ""


class Zygote:
    """Serves one host over `link` until it is gone."""

    def __init__(self, link: HostLink, offspring: Offspring) -> None:
        self._link = link
        self._offspring = offspring
        self._workers: dict[int, Nursling] = {}
        self._by_pid: dict[int, Nursling] = {}
        self._sweepers: set[int] = set()
        self._next_worker = 1
        self._to_fork = 0
        self._fork_at = 0.0
        self._round: deque[int] = deque()
        self._look_at = 0.0
        self._over: dict[int, Nursling] = {}
        self._turn_at = 0.0
        self._usage_at = 0.0

    def run(self) -> None:
        """Serve until the host is gone; no worker is left then."""
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        # The host is told to drain at the same time as the zygote is told to end, and its end is ours.
        signal.signal(signal.SIGTERM, _ignore)
        selector = selectors.DefaultSelector()
        selector.register(wake, selectors.EVENT_READ)
        selector.register(self._link, selectors.EVENT_READ)
        try:
            while True:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._link.backlogged else 0)
                selector.modify(self._link, events)
                for key, _ in selector.select(self._patience(time.monotonic())):
                    if key.fileobj is wake:
                        _drain(wake)
                self.turn(time.monotonic())
        except HostGone:
            self._end_all()
        finally:
            signal.set_wakeup_fd(-1)
            selector.close()

    def turn(self, now: float) -> None:
        """Do whatever is due at `now` (seconds, monotonic). Raises HostGone."""
        self._link.flush()
        while (message := self._link.receive()) is not None:
            self._obey(message, now)
        self._reap()
        if self._to_fork and now >= self._fork_at:
            self._fork(now)
        if now >= self._look_at:
            self._look(now)
        if self._over and now >= self._turn_at:
            self._take_turns(now)
        if now >= self._usage_at:
            self._report_usage(now)

    def _patience(self, now: float) -> float | None:
        if self._to_fork:
            return max(0.0, self._fork_at - now)
        if not self._workers:
            return None
        due = min(self._look_at, self._usage_at)
        if self._over:
            due = min(due, self._turn_at)
        return max(0.0, due - now)

    def _obey(self, message: ToZygote, now: float) -> None:
        match message:
            case Spawn(count=count):
                self._to_fork = min(self._to_fork + max(0, count), MAX_PENDING_FORKS)
            case Kill(worker=worker) if worker in self._workers:
                self._kill(self._workers[worker], "requested")
            case Watch(worker=worker) if worker in self._workers:
                self._limit(self._workers[worker], message, now)
            case Look(workers=numbers):
                self._link.send(Efforts(now, list(self._efforts(numbers))))

    def _efforts(self, numbers: Iterable[int]) -> Iterator[Effort]:
        for number in numbers:
            nursling = self._workers.get(number)
            if nursling is not None and (found := procfs.efforts(nursling.pid)) is not None:
                yield Effort(number, *found)

    def _limit(self, nursling: Nursling, limits: Watch, now: float) -> None:
        nursling.limits = limits
        reading = procfs.read(nursling.pid)
        if reading is None:
            return
        self._go_on(nursling)
        cores = limits.cpu_millis / 1000
        nursling.share = CpuShare.full(cores, reading.cpu_seconds, now) if cores > 0 else None

    def _fork(self, now: float) -> None:
        worker = self._next_worker
        self._next_worker += 1
        parent = os.getpid()
        host_end, worker_end = socket.socketpair()
        directory = directories.path(self._offspring.directory, worker)
        try:
            directory.mkdir(mode=0o700)
            pid = os.fork()
        except OSError as exc:
            # A worker that filled the disk or the process table must not end the others with the zygote.
            self._link.send(CannotFork(str(exc)))
            host_end.close()
            worker_end.close()
            directories.remove_empty(directory)
            self._fork_at = now + FORK_RETRY_SECONDS
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            live(
                Birth(worker_end.fileno(), parent, directory, self._offspring.make_agent, self._offspring.off)
            )
        self._to_fork -= 1
        worker_end.close()
        reading = procfs.read(pid)
        at_fork = reading.anonymous_bytes if reading else 0
        nursling = Nursling(worker, pid, directory, at_fork)
        self._workers[worker] = self._by_pid[pid] = nursling
        self._link.send(Spawned(worker, pid), host_end.detach())

    def _kill(self, nursling: Nursling, reason: str) -> None:
        nursling.reason = nursling.reason or reason
        _signal(nursling.pid, signal.SIGKILL)

    def _reap(self) -> None:
        ended = False
        while (found := _wait()) is not None:
            pid, status = found
            self._sweepers.discard(pid)
            nursling = self._by_pid.pop(pid, None)
            if nursling is None:
                continue
            ended = True
            del self._workers[nursling.worker]
            self._over.pop(nursling.worker, None)
            self._link.send(Exited(nursling.worker, os.waitstatus_to_exitcode(status), nursling.reason))
            if (sweeper := directories.remove(nursling.directory)) is not None:
                self._sweepers.add(sweeper)
        if ended:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        # The subprocesses of a worker come to the zygote, their subreaper, when the worker ends.
        for pid in procfs.children(os.getpid()):
            if pid not in self._by_pid and pid not in self._sweepers:
                _signal(pid, signal.SIGKILL)

    def _look(self, now: float) -> None:
        if not self._round:
            self._round.extend(self._workers)
        turns = max(1, -(-len(self._workers) // LOOK_WORKERS))
        self._look_at = now + LOOK_SECONDS / turns
        for _ in range(min(LOOK_WORKERS, len(self._round))):
            nursling = self._workers.get(self._round.popleft())
            if nursling is not None:
                self._look_at_one(nursling, now)

    def _look_at_one(self, nursling: Nursling, now: float) -> None:
        reading = procfs.read(nursling.pid)
        if reading is None:
            return
        limits, taken = nursling.limits, reading.anonymous_bytes - nursling.at_fork_bytes
        if limits and reading.resident_bytes - nursling.at_fork_bytes > limits.memory_bytes:
            # Shared memory without a file counts, too; only this dearer look tells it from mapped files.
            taken = procfs.read_own_bytes(nursling.pid) - nursling.at_fork_bytes
        nursling.sample = Sample(nursling.worker, max(0, taken), reading.cpu_seconds, reading.threads)
        if limits and (over := verdict(limits, nursling.sample)):
            self._kill(nursling, over)
        if nursling.share is not None:
            nursling.share.account(reading.cpu_seconds, now)
            if nursling.share.over:
                self._over[nursling.worker] = nursling

    def _take_turns(self, now: float) -> None:
        self._turn_at = now + TURN_SECONDS
        for worker, nursling in list(self._over.items()):
            reading, share = procfs.read(nursling.pid), nursling.share
            if reading is None or share is None or share.calm:
                del self._over[worker]
                continue
            share.account(reading.cpu_seconds, now)
            rest = share.turn(now)
            if rest is not None:
                _signal(nursling.pid, signal.SIGSTOP if rest else signal.SIGCONT)

    def _go_on(self, nursling: Nursling) -> None:
        self._over.pop(nursling.worker, None)
        if nursling.share is not None and nursling.share.resting_since is not None:
            _signal(nursling.pid, signal.SIGCONT)

    def _report_usage(self, now: float) -> None:
        self._usage_at = now + USAGE_SECONDS
        samples = [nursling.sample for nursling in self._workers.values() if nursling.sample is not None]
        own = procfs.read(os.getpid())
        if own is not None:
            samples.append(Sample(ZYGOTE, own.anonymous_bytes, own.cpu_seconds, own.threads))
        for start in range(0, len(samples), USAGE_SAMPLES):
            self._link.send(Usage(samples[start : start + USAGE_SAMPLES]))

    def _end_all(self) -> None:
        for nursling in self._workers.values():
            _signal(nursling.pid, signal.SIGKILL)
        for nursling in self._workers.values():
            os.waitpid(nursling.pid, 0)
            directories.remove(nursling.directory)
        for pid in procfs.children(os.getpid()):
            if pid not in self._sweepers:
                _signal(pid, signal.SIGKILL)


def _wait() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _drain(sock: socket.socket) -> None:
    try:
        sock.recv(4096)
    except BlockingIOError:
        return


def _ignore(number: int, frame: object) -> None:
    """Only wakes the loop."""
