# SPDX-License-Identifier: Apache-2.0
"""`make demo-local`: the quickstart on this machine, with a Redis, two hosts, and one of them killed.

Starts redis-server on a free port in a directory of its own, runs `agentpool dev` on it, teaches three
projects their documents, asks them questions, kills a host by SIGKILL in the middle and asks again.
Everything that was started is ended. Exit code 0 when every answer held what it should.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from tools.ports import free_port
from tools.quickstart import EXAMPLE, ROOT, DemoFailed, ask, print_table, questions, say, teach

READY_SECONDS = 60.0
ANSWER_SECONDS = 30.0
END_SECONDS = 30.0


@contextlib.contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """End a process at the end of the block."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[str]:
    """A redis-server with an append-only file; gives its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise DemoFailed(
            "redis-server is missing. Install it (Debian: apt-get install redis-server), or run `make setup`."
        )
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    with (directory / "redis.log").open("w") as log, ended(subprocess.Popen(command, stdout=log)) as process:
        until(lambda: is_open(port), process, "redis-server", directory / "redis.log")
        yield f"redis://127.0.0.1:{port}/0"


def is_open(port: int) -> bool:
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(ready: Any, process: subprocess.Popen[Any], name: str, log: Path) -> None:
    """Wait until `ready()`; DemoFailed with the end of the log when the process ends or takes too long."""
    end = time.monotonic() + READY_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise DemoFailed(f"{name} did not start:\n{tail}")
        time.sleep(0.05)


@contextlib.contextmanager
def pool(directory: Path, redis_url: str) -> Iterator[str]:
    """`agentpool dev` with two hosts; gives the gateway's address."""
    log, out = directory / "dev.log", directory / "dev.out"
    command = [sys.executable, "-m", "agentpool_cli", "dev", str(EXAMPLE / "pool.yaml")]
    command += ["--redis", redis_url, "--hosts", "2", "--port", "0", "--grpc-port", "0", "--no-reload"]
    command += ["--state-dir", str(directory / "run")]
    with log.open("w") as errors, out.open("w") as output:
        started = subprocess.Popen(command, stdout=output, stderr=errors, cwd=ROOT)
    with ended(started) as process:
        until(lambda: "curl -s" in out.read_text(), process, "agentpool dev", log)
        table = out.read_text().split("\n\n")[1]
        print(textwrap.indent(table, " " * 10))
        address = re.search(r"http://[\d.]+:\d+", table)
        if address is None:
            raise DemoFailed("agentpool dev printed no address.")
        yield address.group()


def kill_host(directory: Path, pod: str) -> None:
    """SIGKILL to the host process of a pod."""
    processes = json.loads((directory / "run" / "processes.json").read_text())
    for child in psutil.Process(processes[pod]["pid"]).children(recursive=True):
        if "agentpool_agent.host" in child.cmdline():
            os.kill(child.pid, signal.SIGKILL)
            say(f"killed the host of {pod} by SIGKILL (process {child.pid}); its workers end with it")
            return
    raise DemoFailed(f"{pod} has no host process.")


def run(directory: Path) -> None:
    """The whole demonstration."""
    say("starting redis-server on a port and in a directory of its own")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis(directory))
        say(f"starting agentpool dev {EXAMPLE.relative_to(ROOT)}/pool.yaml with two hosts")
        address = stack.enter_context(pool(directory, url))
        client = stack.enter_context(httpx.Client(base_url=address, timeout=ANSWER_SECONDS))
        say("the pool is ready")
        teach(client)
        lines = questions()
        rows = ask(client, lines)
        print_table(rows)
        kill_host(directory, rows[0].pod)
        say("asking again: what was acknowledged is still known")
        again = ask(client, lines)
        print_table(again)
        if [row.answer for row in again] != [row.answer for row in rows]:
            raise DemoFailed("An answer is not the same as before.")
        moved = sorted({row.project for row, new in zip(rows, again, strict=True) if row.pod != new.pod})
        say(f"every answer is the same as before; moved to the other host: {', '.join(moved) or 'none'}")
        say("ending agentpool dev and redis-server")


def main() -> int:
    """Run in a directory that is removed afterwards; 1 and the reason when it fails."""
    try:
        with tempfile.TemporaryDirectory(prefix="agentpool-demo-") as directory:
            run(Path(directory))
    except (DemoFailed, httpx.HTTPError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    say("done, nothing is left running. Next: agentpool dev examples/01-quickstart/pool.yaml")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
