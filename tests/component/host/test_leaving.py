# SPDX-License-Identifier: Apache-2.0
"""A pod that is deleted while its processes start: its node waits until they can hear SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentpool_operator.desired.pod import AWAIT_HANDLER
from support.hosts import PUBLIC_KEY, SOURCES

OURS = "agentpool_agent.stand_in"
"""An argument by which a stand-in is told from the container runtime's own process."""
SECONDS = 60.0
"""Far more than needed: of a machine that is busy."""
DEAF = "import sys; print(flush=True); sys.stdin.read()"
HANDLING = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(flush=True)
sys.stdin.read()
"""
LATE = """
import signal, sys
print(flush=True)
sys.stdin.readline()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
sys.stdin.read()
"""
HOST = ["-m", "agentpool_agent.host", "--listen", "127.0.0.1:0", "--role", "Generic"]
ZYGOTE = ["-m", "agentpool_agent.zygote", "--entrypoint", "agentpool_agent.agents.echo:Echo"]


@contextmanager
def process(arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A container's first process, told apart by its number here."""
    env = {"PYTHONPATH": ":".join(map(str, SOURCES)), "PATH": "/usr/bin:/bin", **environment}
    started = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


def await_handler(pid: int) -> subprocess.Popen[str]:
    """What the kubelet runs in the container before it sends SIGTERM."""
    script = AWAIT_HANDLER.replace("/proc/1/", f"/proc/{pid}/")
    return subprocess.Popen(["/bin/sh", "-c", script], text=True)


def test_it_waits_for_a_process_that_does_not_handle_the_signal_yet() -> None:
    with process(["-c", LATE, OURS]) as late:
        assert late.stdin is not None and late.stdout is not None
        late.stdout.readline()
        with await_handler(late.pid) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.5)
            late.stdin.write("\n")
            late.stdin.flush()
            assert waiting.wait(SECONDS) == 0
        late.send_signal(signal.SIGTERM)
        assert late.wait(SECONDS) == 0


def test_it_gives_up_on_one_that_never_does() -> None:
    with process(["-c", DEAF, OURS]) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        with await_handler(deaf.pid) as waiting:
            assert waiting.wait(SECONDS) == 0


def test_it_takes_no_handler_for_ours_that_the_container_runtime_has() -> None:
    with process(["-c", HANDLING]) as runtime:
        assert runtime.stdout is not None
        runtime.stdout.readline()
        with await_handler(runtime.pid) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1.0)
            waiting.kill()


def test_it_does_not_wait_where_nobody_tells_what_a_process_handles() -> None:
    script = AWAIT_HANDLER.replace("/proc/1/status", "/dev/null").replace("sleep", "exit 1; sleep")
    assert subprocess.run(["/bin/sh", "-c", script], timeout=SECONDS, check=False).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(HOST, id="a host that is not configured"),
        pytest.param(ZYGOTE, id="workers without a host"),
    ],
)
def test_what_is_told_to_end_as_soon_as_it_can_hear_it_ends_well(
    arguments: list[str], tmp_path: Path
) -> None:
    place = ["--run-dir", str(tmp_path)] if arguments is HOST else ["--socket", str(tmp_path / "none.sock")]
    with process([*arguments, *place], AGENTPOOL_PUBLIC_KEYS=PUBLIC_KEY.decode()) as one:
        with await_handler(one.pid) as waiting:
            assert waiting.wait(SECONDS) == 0
        one.send_signal(signal.SIGTERM)
        assert one.wait(SECONDS) == 0
