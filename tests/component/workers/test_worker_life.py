# SPDX-License-Identifier: Apache-2.0
"""Real zygotes and workers: answers, state, commits, rollbacks, and agents that hurt only themselves."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from agentpool_agent.wire import frames, nursery
from agentpool_agent.zygote import procfs
from support.workers import MEBIBYTE, Nursery, WorkerLine, assign, eventually, nursery_of

ECHO = "agentpool_agent.agents.echo:Echo"
COUNTER = "support.agents.counter:Counter"
FAULTY = "support.agents.faulty:Faulty"


def cpu_seconds(line: WorkerLine) -> float:
    """What a worker has used since its start."""
    found = procfs.read(line.pid)
    assert found is not None
    return found.cpu_seconds


async def ready(host: Nursery, wanted: frames.Assign | None = None) -> WorkerLine:
    (line,) = await host.spawn()
    await line.become(wanted)
    return line


async def test_an_echo_answers_and_commits_nothing() -> None:
    async with nursery_of(ECHO) as host:
        line = await ready(host)
        assert (await line.ask({"a": [1, None]})).output == {"a": [1, None]}
        assert line.commits[0].parts == {}


async def test_a_workers_ready_names_every_guard_that_the_zygote_promised() -> None:
    async with nursery_of(ECHO) as host:
        assert isinstance(host.first, nursery.Hello)
        (line,) = await host.spawn()
        here = await line.become()
        measured = {"watch-memory", "watch-threads"}
        assert set(here.guards) == set(host.first.guards) - measured
        assert here.missing == host.first.missing


async def test_a_worker_imports_and_compiles_nothing_after_its_fork() -> None:
    # Each first time writes to pages that all workers share until then, while a request waits.
    async with nursery_of("support.agents.frugal:Frugal") as host:
        line = await ready(host)
        await line.ask("once")
        assert (await line.ask("tell")).output == {"modules": [], "patterns": []}


async def test_state_lives_on_in_another_worker() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        assert [(await line.ask("add")).output for _ in range(3)] == [1, 2, 3]
        other = await ready(host, assign(line.state))
        assert (await other.ask("add")).output == 4


async def test_a_request_that_changes_nothing_waits_for_no_commit() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        await line.ask("add")
        line.acknowledge = False
        assert (await line.ask("get")).output == 1


async def test_requests_that_finish_during_a_commit_share_the_next_one() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        ends = [line.begin("add")[1] for _ in range(50)]
        outputs = [(await end).output for end in ends]
        assert sorted(outputs) == list(range(1, 51))
        assert line.state["count"] == b"50"
        assert len(line.commits) < 10


async def test_chunks_come_before_the_answer() -> None:
    async with nursery_of(COUNTER) as host:
        outcome = await (await ready(host)).ask("stream")
        assert (outcome.chunks, outcome.output) == ([0, 1, 2], 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("reject", "InputRejected", id="a refused input leaves no change behind"),
        pytest.param("raise", "AgentFailed", id="an exception leaves no change behind"),
        pytest.param({"blob": 9 * MEBIBYTE}, "StateTooLarge", id="a state over its limit is not kept"),
        pytest.param({"answer": 5 * MEBIBYTE}, "AnswerTooLarge", id="an answer over its limit is refused"),
    ],
)
async def test_a_failure_rolls_back(body: object, code: str) -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        await line.ask("add")
        failure = (await line.ask(body)).failure
        assert failure is not None and failure.code == code
        assert (await line.ask("get")).output == 1


async def test_a_request_past_its_deadline_fails_and_is_rolled_back() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        failure = (await line.ask("slow", deadline_seconds=0.2)).failure
        assert failure is not None and failure.code == "DeadlineExceeded"
        assert (await line.ask("get")).output == 0


async def test_a_refused_commit_takes_the_agent_back() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        await line.ask("add")
        line.acknowledge = False
        line.begin("add")
        await line.until(lambda: len(line.commits) == 2)
        _, waiting = line.begin("add")
        _, running = line.begin({"sleep": 60})
        await asyncio.sleep(0.05)
        line.send(frames.Committed(line.commits[-1].seq, False))
        for end in (waiting, running):
            failure = (await end).failure
            assert failure is not None and failure.code == "InstanceRolledBack"
        line.acknowledge = True
        assert (await line.ask("add")).output == 2


async def test_no_snapshot_is_taken_while_a_request_is_exclusive() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host)
        ends = [line.begin(body)[1] for body in ("exclusive", "add", "exclusive", "add")]
        await asyncio.gather(*ends)
        assert line.state["count"] == b"6"
        exclusive_in_half = {b"1", b"2"} & {commit.parts.get("count") for commit in line.commits[:1]}
        assert not exclusive_in_half


async def test_interval_answers_at_once_and_commits_when_asked() -> None:
    async with nursery_of(COUNTER) as host:
        line = await ready(host, assign(durable=False))
        assert (await line.ask("add")).output == 1
        failure = (await line.ask("raise")).failure
        assert failure is not None
        assert line.state == {}
        line.send(frames.Snapshot())
        await line.until(lambda: line.state)
        assert line.state["count"] == b"1"
        line.send(frames.Snapshot())
        await line.expect(frames.Clean)


async def test_what_is_done_with_the_agent_is_told_before_it_is_done() -> None:
    async with nursery_of(FAULTY) as host:
        (line,) = await host.spawn()
        line.send(assign(config={"setup": "block"}))
        await line.until(lambda: line.stages == ["the agent's setup()"])
        other = await ready(host)
        assert other.stages == ["the agent's setup()", "the agent's restore()"]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param({"count": b"3"}, "RestoreFailed", id="a stored state is refused"),
        pytest.param({"count": b"x"}, "RestoreFailed", id="a stored state cannot be read"),
    ],
)
async def test_a_refused_state_is_told_from_a_failed_setup(parts: dict[str, bytes], code: str) -> None:
    async with nursery_of("support.agents.fragile:Fragile") as host:
        (line,) = await host.spawn()
        line.send(assign(parts, config={"refuse": parts["count"] == b"3"}))
        failed = await line.expect(frames.SetupFailed)
        assert failed.code == code
        assert failed.message.startswith("In the agent's restore(): ValueError")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        pytest.param("raise", "AgentCreationFailed", id="a setup that raises"),
        pytest.param("hang", "AgentCreationTimeout", id="a setup that does not end"),
    ],
)
async def test_a_failed_setup_is_told_and_ends_the_worker(how: str, code: str) -> None:
    async with nursery_of(FAULTY) as host:
        (line,) = await host.spawn()
        line.send(assign(config={"setup": how}, setup_seconds=0.3))
        assert (await line.expect(frames.SetupFailed)).code == code
        assert (await host.exited(line)).status == 3


async def test_a_crash_ends_only_its_own_worker() -> None:
    async with nursery_of(FAULTY) as host:
        line, neighbour = await ready(host), await ready(host)
        with pytest.raises(ConnectionResetError):
            await line.ask("crash")
        assert (await host.exited(line)).status == -signal.SIGABRT
        assert (await neighbour.ask(1)).output == 1


async def test_a_hanging_worker_answers_no_ping_and_can_be_killed() -> None:
    async with nursery_of(FAULTY) as host:
        line, neighbour = await ready(host), await ready(host)
        line.send(frames.Ping(1))
        await line.expect(frames.Pong)
        line.begin("hang")
        await asyncio.sleep(0.1)
        line.send(frames.Ping(2))
        with pytest.raises(TimeoutError):
            await line.expect(frames.Pong, seconds=0.3)
        assert (await neighbour.ask(1)).output == 1
        host.send(nursery.Kill(line.worker))
        ended = await host.exited(line)
        assert (ended.status, ended.reason) == (-signal.SIGKILL, "requested")


async def test_a_handler_that_cannot_be_stopped_ends_its_worker() -> None:
    async with nursery_of(FAULTY) as host:
        line = await ready(host)
        line.begin("stubborn", deadline_seconds=0.1)
        assert (await host.exited(line)).status == 4


async def test_memory_over_the_quota_is_a_memory_error_and_the_neighbour_goes_on() -> None:
    async with nursery_of(FAULTY) as host:
        line, neighbour = await ready(host), await ready(host)
        failure = (await line.ask({"memory": 100 * MEBIBYTE})).failure
        assert failure is not None and failure.code == "MemoryExceeded"
        assert (await line.ask({"memory": 30 * MEBIBYTE})).failure is None
        assert (await neighbour.ask(1)).output == 1


async def test_memory_over_the_quota_succeeds_with_its_limit_off_and_the_watch_kills_then() -> None:
    async with nursery_of(FAULTY, off=("limit-memory",)) as host:
        line = await ready(host)
        assert (await line.ask({"memory": 100 * MEBIBYTE})).failure is None
        host.send(nursery.Watch(line.worker, 64 * MEBIBYTE, 32))
        assert (await host.exited(line)).reason == "memory"


async def test_threads_over_the_limit_end_the_worker_once_it_is_watched() -> None:
    async with nursery_of(FAULTY) as host:
        line, neighbour = await ready(host), await ready(host)
        await line.ask({"threads": 40})
        assert (await line.ask(1)).output == 1
        host.send(nursery.Watch(line.worker, 64 * MEBIBYTE, 32))
        assert (await host.exited(line)).reason == "threads"
        assert (await neighbour.ask(1)).output == 1


async def test_a_spinning_worker_is_held_to_its_share_and_its_neighbour_answers() -> None:
    async with nursery_of(FAULTY) as host:
        line, neighbour, free = await ready(host), await ready(host), await ready(host)
        host.send(nursery.Watch(line.worker, 64 * MEBIBYTE, 32, cpu_millis=30))
        began = (cpu_seconds(line), cpu_seconds(free))
        line.begin({"spin": 3600})
        free.begin({"spin": 3600})
        for _ in range(40):
            assert (await neighbour.ask(1)).output == 1
            await asyncio.sleep(0.1)
        used = cpu_seconds(line) - began[0]
        # 0.3 s saved up, one look of a second without a limit, then 0.03 of a core.
        assert used < 2.0
        assert cpu_seconds(free) - began[1] > used, "without a limit it takes more"
        host.send(nursery.Kill(line.worker))
        assert (await host.exited(line)).status == -signal.SIGKILL, "also while it rests"


async def test_a_worker_that_rests_lives_on_and_answers() -> None:
    async with nursery_of(FAULTY) as host:
        line = await ready(host)
        host.send(nursery.Watch(line.worker, 64 * MEBIBYTE, 32, cpu_millis=10))
        assert (await line.ask({"spin": 2.5})).output == {"spin": 2.5}
        host.send(nursery.Watch(line.worker, 64 * MEBIBYTE, 32))
        assert (await line.ask(1)).output == 1


@pytest.mark.parametrize(
    ("body", "guard"),
    [
        pytest.param({"descriptors": 300}, "limit-descriptors", id="descriptors"),
        pytest.param({"file": 2 * MEBIBYTE}, "limit-file-size", id="the size of a file"),
    ],
)
async def test_a_limit_holds_and_does_not_without_its_guard(body: object, guard: str) -> None:
    for off in ((), (guard,)):
        async with nursery_of(FAULTY, off=off) as host:
            line = await ready(host, assign(file_bytes=MEBIBYTE))
            assert ((await line.ask(body)).failure is None) is bool(off)


async def test_a_flood_waits_for_the_host_to_read() -> None:
    async with nursery_of(FAULTY) as host:
        line, neighbour = await ready(host), await ready(host)
        line.begin("flood")
        await line.until(lambda: [failure.code for failure in line.failures] == ["AnswerTooLarge"])
        assert (await neighbour.ask(1)).output == 1


async def test_printed_and_logged_lines_reach_the_host() -> None:
    async with nursery_of(FAULTY) as host:
        line = await ready(host)
        await line.ask("print")
        assert line.logs == ["printed line", "logged line"]


async def test_subprocesses_work_where_they_are_allowed_and_end_with_the_worker() -> None:
    async with nursery_of("support.agents.hostile:Hostile") as host:
        line = await ready(host, assign(subprocesses=True))
        assert (await line.ask({"attack": "exec"})).output == "done"
        assert (await line.ask({"attack": "fork"})).output == "done"
        assert (await line.ask({"attack": "unix", "path": "/"})).output == "Operation not permitted"


async def test_the_network_is_reached_where_it_is_allowed_but_no_port_is_opened() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, nursery_of("support.agents.hostile:Hostile") as host:
        line = await ready(host, assign(network=True))
        assert (await line.ask({"attack": "tcp", "port": port})).output == "done"
        assert (await line.ask({"attack": "bind", "port": port})).output == "Operation not permitted"


async def test_a_dead_workers_directory_is_removed() -> None:
    async with nursery_of(FAULTY) as host:
        line = await ready(host)
        await line.ask({"file": 1000})
        directory = host.run_dir / "work" / f"worker-{line.worker}"
        assert _mode(directory) == 0o700
        line.send(frames.Stop())
        assert (await host.exited(line)).status == 0
        await eventually(lambda: not _exists(directory))


async def test_when_the_host_ends_zygote_and_workers_end() -> None:
    async with nursery_of(ECHO) as host:
        lines = await host.spawn(3)
        assert await host.close() == 0
        assert not any(_exists(Path(f"/proc/{line.pid}")) for line in lines)


async def test_when_the_zygote_is_killed_its_workers_end() -> None:
    async with nursery_of(ECHO) as host:
        (line,) = await host.spawn()
        host.process.kill()
        async with asyncio.timeout(5):
            await line.closed.wait()


async def test_an_agent_that_cannot_be_imported_is_told() -> None:
    async with nursery_of("support.agents.nothing:Here") as host:
        assert isinstance(host.first, nursery.ImportFailed)
        assert "support.agents.nothing" in host.first.message
        assert await host.process.wait() == 3


async def test_an_agent_that_starts_threads_at_import_is_refused() -> None:
    async with nursery_of("support.agents.threaded:Threaded") as host:
        assert isinstance(host.first, nursery.ImportFailed)
        assert "threads" in host.first.message


async def test_twins_draw_different_random_numbers() -> None:
    async with nursery_of("support.agents.random_numbers:RandomNumbers") as host:
        drawn = [(await (await ready(host)).ask(None)).output for _ in range(3)]
        assert len(set(drawn)) == 3


async def test_usage_is_reported() -> None:
    async with nursery_of(FAULTY) as host:
        line = await ready(host)
        await line.ask({"memory": 20 * MEBIBYTE})
        await host.until(lambda: host.memory_of(line) > 19 * MEBIBYTE, seconds=12)
        assert host.usage[line.worker].threads == 1


def _mode(path: Path) -> int:
    return os.stat(path).st_mode & 0o777


def _exists(path: Path) -> bool:
    return path.exists()
