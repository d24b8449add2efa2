# SPDX-License-Identifier: Apache-2.0
"""The host's end of a worker's socket: frames in any cut, and the end of whatever is over a bound."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.worker import Budget, WorkerChannel
from agentpool_agent.wire import frames
from agentpool_core.recovery import Cause


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unread = 0
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Not needed."""

    def abort(self) -> None:
        self.aborted = True


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.exchanges: dict[int, Exchange] = {}
        self.frames: list[frames.ToHost] = []
        self.lost: list[str] = []
        self.causes: list[Cause] = []

    def frame_received(self, frame: frames.ToHost) -> None:
        self.frames.append(frame)

    def worker_lost(self, reason: str, cause: Cause) -> None:
        self.lost.append(reason)
        self.causes.append(cause)


class Rig:
    """A channel with everything around it."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.now = 100.0
        self.killed: list[int] = []
        self.transport = Transport()
        self.sink = Sink()
        self.channel = WorkerChannel(7, self.killed.append, lambda: self.now, budget or Budget())
        self.channel.connection_made(self.transport)
        self.channel.sink = self.sink


FRAMES: list[frames.ToHost] = [
    frames.Part(1, b"x" * 300),
    frames.Commit(1, [frames.Finished(1, b"{}")], {"a": bytes(200)}),
    frames.Clean(),
    frames.Failed(2, "AgentFailed", "no"),
]


@given(st.lists(st.integers(1, 700), max_size=40))
def test_frames_arrive_whole_however_the_bytes_are_cut(cuts: list[int]) -> None:
    rig = Rig()
    data = b"".join(frames.pack(frame) for frame in FRAMES)
    for cut in cuts:
        rig.channel.data_received(data[:cut])
        data = data[cut:]
    if data:
        rig.channel.data_received(data)
    assert rig.sink.frames == FRAMES
    assert rig.sink.lost == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff\xff", id="a frame longer than any may be"),
        pytest.param(b"\x03\x00\x00\x00abc", id="no msgpack"),
        pytest.param(frames.pack(frames.Handle(1, b"", 1.0)), id="a frame only the host may send"),
        pytest.param(frames.pack(frames.Clean()) * 51, id="too many frames in a second"),
        pytest.param(frames.pack(frames.Part(1, bytes(9000))), id="too many bytes in a second"),
    ],
)
def test_a_worker_over_a_bound_is_ended_once(data: bytes) -> None:
    rig = Rig(Budget(bytes_per_second=8192, frames_per_second=50))
    rig.channel.data_received(data)
    rig.channel.data_received(frames.pack(frames.Clean()))
    rig.channel.connection_lost(None)
    assert len(rig.sink.lost) == 1
    assert rig.transport.aborted and 7 in rig.killed


@pytest.mark.parametrize(
    ("request_number", "named"),
    [
        pytest.param(1, {"trace_id": "a" * 32}, id="a line of a traced request names its trace"),
        pytest.param(2, {}, id="traces are off"),
        pytest.param(3, {}, id="no such request, or it has ended"),
        pytest.param(0, {}, id="a line of no request"),
    ],
)
def test_lines_of_an_agent_name_the_trace_of_their_request(
    request_number: int, named: dict[str, str]
) -> None:
    rig = Rig()
    traced, other = Exchange(1, "", 200.0, 100), Exchange(2, "", 200.0, 100)
    traced.trace_id = "a" * 32
    rig.sink.exchanges = {1: traced, 2: other}
    with capture_logs() as lines:
        rig.channel.data_received(frames.pack(frames.Log(20, "hello", request_number)))
    told = {"event": "agent_logged", "message": "hello", "instance": "", "log_level": "info"}
    assert lines == [told | named]


def test_the_budget_is_per_second() -> None:
    rig = Rig(Budget(frames_per_second=2))
    for _ in range(5):
        rig.channel.data_received(frames.pack(frames.Clean()) * 2)
        rig.now += 1.0
    assert (len(rig.sink.frames), rig.sink.lost) == (10, [])


def test_a_frame_before_the_assignment_ends_the_worker() -> None:
    rig = Rig()
    rig.channel.sink = None
    rig.channel.data_received(frames.pack(frames.Clean()))
    assert rig.channel.lost


def test_a_worker_that_does_not_read_is_ended() -> None:
    rig = Rig(Budget(unread_bytes=1000))
    rig.transport.unread = 1001
    rig.channel.send(frames.Snapshot())
    assert rig.sink.lost == ["it does not read its socket"]


def test_a_question_stays_open_until_it_is_answered() -> None:
    rig = Rig()
    assert rig.channel.ping(100.0) == 0.0
    assert rig.channel.ping(103.0) == 3.0
    rig.channel.data_received(frames.pack(frames.Pong(1)))
    assert rig.channel.ping(104.0) == 0.0
    assert rig.transport.written == frames.pack(frames.Ping(1)) + frames.pack(frames.Ping(2))


@pytest.mark.parametrize(
    ("status", "reason", "told", "cause"),
    [
        pytest.param(-6, "", "its process was ended by signal 6", Cause.CRASH, id="a signal"),
        pytest.param(3, "", "its process ended with status 3", Cause.CRASH, id="an exit"),
        pytest.param(
            -9, "memory", "it was ended for its use of memory", Cause.MEMORY_EXCEEDED, id="the memory limit"
        ),
        pytest.param(
            -9, "threads", "it was ended for its use of threads", Cause.CRASH, id="the limit of threads"
        ),
    ],
)
async def test_an_exit_tells_why_also_when_the_socket_closes_first(
    status: int, reason: str, told: str, cause: Cause
) -> None:
    for closed in (False, True):
        rig = Rig()
        if closed:
            rig.channel.connection_lost(None)
            rig.channel.send(frames.Snapshot())
            assert rig.sink.lost == [], "the zygote knows more"
        rig.channel.exited(status, reason)
        rig.channel.exited(status, reason)
        assert (rig.sink.lost, rig.sink.causes) == ([told], [cause])


def test_time_that_the_host_lost_makes_a_question_younger() -> None:
    rig = Rig()
    rig.channel.ping(100.0)
    assert rig.channel.asked
    rig.channel.excuse(25.0)
    assert rig.channel.ping(130.0) == 5.0
    assert rig.channel.ping(110.0) == 0.0
