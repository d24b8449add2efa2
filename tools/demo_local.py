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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "01-quickstart"
READY_SECONDS = 60.0
ANSWER_SECONDS = 30.0
END_SECONDS = 30.0
WIDTH = 46
"""Columns of question and answer in the table."""

began = time.monotonic()


class DemoFailed(Exception):
    """Something did not go as it should; the text says what."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    project: str
    tier: str
    pod: str
    question: str
    answer: str
    milliseconds: float


def say(text: str) -> None:
    """A line of progress with the time since the start."""
    print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)


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


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


def invoke(client: httpx.Client, tenant: str, project: str, value: Any) -> dict[str, Any]:
    """One request; DemoFailed with the gateway's reason when it is refused."""
    body = {"tenant_id": tenant, "project_id": project, "input": value}
    response = client.post("/api/v1/pool/invoke", json=body)
    answer: dict[str, Any] = response.json()
    if response.is_error:
        raise DemoFailed(f"{answer['code']}: {answer['detail']} {answer['remedy']}")
    return answer


def teach(client: httpx.Client) -> None:
    """Give every project its documents."""
    for folder in sorted((EXAMPLE / "documents").glob("*/*")):
        texts = [{"id": path.stem, "text": path.read_text()} for path in sorted(folder.glob("*.md"))]
        answer = invoke(client, folder.parent.name, folder.name, {"documents": texts})
        took = f"{answer['timing']['done_ms']:.1f} ms, now on {answer['pod']}"
        say(f"taught {folder.parent.name}/{folder.name}: {len(texts)} documents, {took}")


def ask(client: httpx.Client, lines: Sequence[dict[str, str]]) -> list[Row]:
    """Ask each question and check that its answer holds the passage that belongs to it."""
    rows = []
    for line in lines:
        started = time.monotonic()
        answer = invoke(client, line["tenant"], line["project"], line["question"])
        milliseconds = (time.monotonic() - started) * 1000
        text = " ".join(answer["output"]["answer"].split())
        passages = " ".join(" ".join(one["text"].split()) for one in answer["output"]["passages"])
        if line["expect"] not in text + passages:
            raise DemoFailed(f"{line['question']} was answered by: {text}")
        project = f"{line['tenant']}/{line['project']}"
        rows.append(Row(project, answer["tier"], answer["pod"], line["question"], text, milliseconds))
    return rows


def print_table(rows: Sequence[Row]) -> None:
    """Project, tier, pod, question, answer and milliseconds; long texts are wrapped."""
    form = f"{{:14}} {{:4}} {{:9}} {{:{WIDTH}}} {{:{WIDTH}}} {{:>7}}"
    print("\n" + form.format("PROJECT", "TIER", "POD", "QUESTION", "ANSWER", "MS"))
    for row in rows:
        question = textwrap.wrap(row.question, WIDTH)
        answer = textwrap.wrap(textwrap.shorten(row.answer, WIDTH * 4, placeholder=" ..."), WIDTH)
        for at in range(max(len(question), len(answer))):
            first = at == 0
            print(
                form.format(
                    row.project if first else "",
                    row.tier if first else "",
                    row.pod if first else "",
                    question[at] if at < len(question) else "",
                    answer[at] if at < len(answer) else "",
                    f"{row.milliseconds:.1f}" if first else "",
                ).rstrip()
            )
    print(flush=True)


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
        lines = yaml.safe_load((EXAMPLE / "questions.yaml").read_text())
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
