# SPDX-License-Identifier: Apache-2.0
"""A real `agentpool dev` as a process, for tests that talk to it as a user does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 40.0
"""Generous for a busy test machine; the bound that users get is asserted where it is the subject."""
END_SECONDS = 30.0


@dataclass
class DevPool:
    """A running pool.

    Attributes:
        banner: what it printed when it was ready.
        log: file with its standard error.
        ready_seconds: from the start of the program to its banner.
    """

    process: subprocess.Popen[str]
    banner: str
    log: Path
    ready_seconds: float
    rest_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        """Address of its gateway."""
        return f"http://127.0.0.1:{self.rest_port}"

    def agentpool(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another `agentpool` command against it."""
        done = subprocess.run(
            [sys.executable, "-m", "agentpool_cli", *arguments],
            env={**os.environ, "AGENTPOOL_URL": self.url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check:
            assert done.returncode == 0, done.stderr + self.log.read_text()
        return done

    def wait_for_log(self, text: str, times: int = 1, seconds: float = 20.0) -> str:
        """Its log once it holds `text` so many times; fails when that takes too long."""
        end = time.monotonic() + seconds
        while (log := self.log.read_text()).count(text) < times:
            assert time.monotonic() < end, f"no {text!r} within {seconds} s in:\n{log}"
            assert self.process.poll() is None, f"dev ended:\n{log}"
            time.sleep(0.05)
        return log

    def processes(self) -> list[psutil.Process]:
        """Every process it has started that still runs, at any depth."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def run_directory(self) -> Path:
        """Its temporary directory, as its pods were told."""
        words = next(words for one in self.processes() if "--run-dir" in (words := one.cmdline()))
        return Path(words[words.index("--run-dir") + 1]).parent

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as a user does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=END_SECONDS)


@contextlib.contextmanager
def dev_pool(manifest: Path, directory: Path, options: Sequence[str] = ()) -> Iterator[DevPool]:
    """Start `agentpool dev MANIFEST` on free ports and end it afterwards, whatever happens."""
    started = time.monotonic()
    log = directory / "dev.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentpool_cli", "dev", str(manifest), "--port", "0", "--grpc-port", "0"]
            + list(options),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        banner = _read_banner(process, log, started + READY_SECONDS)
        yield DevPool(
            process,
            banner,
            log,
            time.monotonic() - started,
            rest_port=int(_found(r"REST +http://127\.0\.0\.1:(\d+)", banner)),
            grpc_port=int(_found(r"gRPC +127\.0\.0\.1:(\d+)", banner)),
        )
    finally:
        _end(process)


def _read_banner(process: subprocess.Popen[str], log: Path, end: float) -> str:
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    text = ""
    while "curl -s" not in text:
        assert process.poll() is None, f"dev ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < end, f"dev was not ready:\n{text}\n{log.read_text()}"
        with contextlib.suppress(BlockingIOError):
            text += os.read(process.stdout.fileno(), 65536).decode()
        time.sleep(0.02)
    return text


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} is not in:\n{text}"
    return match.group(1)


def _end(process: subprocess.Popen[str]) -> None:
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
    for child in children:
        # Only after a failed test is anything left here.
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
