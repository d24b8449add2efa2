# SPDX-License-Identifier: Apache-2.0
"""Frames between the host and a worker, over a socket pair that the worker inherits.

A frame is its length in four bytes, little endian, and one msgpack object with a tag. A worker is not
trusted: the host bounds bytes, frames and lengths and treats anything unexpected as the worker's end.

    host                                   worker
      Assign{identity, state, limits}  --->          construct, setup, restore
                                       <---  Making{stage}*, then Ready | SetupFailed
      Handle{id, body}                 --->
                                       <---  Chunk{id, data}*
                                       <---  Commit{seq, finished[id, output], parts, removed}
      Committed{seq, ok}               --->          (only if the commit changed state)
                                       <---  Failed{id, code, message}
      Snapshot{}                       --->          Commit{seq, finished: []} or Clean{}

One commit is under way at a time. While it is, finished requests wait, because their answers may rest on
state that is not durable yet; the next commit carries all of them. When the host says ok=False, the worker
goes back to the last acknowledged parts and every waiting and running request fails as rolled back; those in
the refused commit are the host's to fail. With `respond_durably` off, answers do not wait and ok=False takes
nothing back: the next Snapshot brings the change again.
"""

from __future__ import annotations

import msgspec

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Longest frame either side accepts: a whole state and its answers, with room."""

LENGTH_BYTES = 4


RESTORING = "the agent's restore()"
"""The stage in which the agent takes its stored state back; see `Making`."""


class Limits(msgspec.Struct, frozen=True):
    """What a worker may use; it sets the limits on itself, irrevocably, before the agent is constructed."""

    memory_bytes: int
    """Private memory above what the worker had when it was forked (RLIMIT_DATA)."""
    descriptors: int = 256
    threads: int = 32
    file_bytes: int = 64 * 1024 * 1024
    state_bytes: int = 8 * 1024 * 1024
    answer_bytes: int = 4 * 1024 * 1024
    setup_seconds: float = 30.0
    network: bool = False
    subprocesses: bool = False


class Assign(msgspec.Struct, frozen=True, tag="assign"):
    """From now on the worker is this instance; sent once. `parts` is the stored state."""

    namespace: str
    pool: str
    tenant_id: str
    project_id: str
    instance_id: str
    epoch: int
    config: bytes
    limits: Limits
    respond_durably: bool
    """True: `durability: Response`, each change is committed before the answer leaves. False: Interval."""
    parts: dict[str, bytes] = {}


class Handle(msgspec.Struct, frozen=True, tag="handle", omit_defaults=True):
    """One request."""

    id: int
    body: bytes
    deadline_seconds: float
    spans: int = 0
    """How many spans the worker may note of it, its own included; 0: nobody looks at them."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """The caller is gone: cancel the handler; no answer is expected."""

    id: int


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """Answer to a Commit that changed state. `ok=False`: go back to the last acknowledged parts."""

    seq: int
    ok: bool


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """Commit what changed, if anything did."""

    full: bool = False
    """Send every part as if it had changed: the store lost its data and the holder registers again. Always
    answered by a Commit, an empty one too."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Are you alive? The worker's loop answers Pong with the same number."""

    number: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End in good order; nothing is committed any more."""


ToWorker = Assign | Handle | Cancel | Committed | Snapshot | Ping | Stop


class Making(msgspec.Struct, frozen=True, tag="making"):
    """What is being done with the agent from now on, so that a deadline which passes meanwhile can say so."""

    stage: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The agent is set up and restored."""

    guards: list[str]
    """Names of the isolation guards in force in this worker."""
    missing: dict[str, str] = {}
    """Guards that are not, with the reason."""


class SetupFailed(msgspec.Struct, frozen=True, tag="setup-failed"):
    """The agent could not be made ready; the worker ends. `code` is one of the error table's."""

    code: str
    message: str


class Part(msgspec.Struct, frozen=True, tag="chunk"):
    """A chunk of an answer: `data` is JSON text."""

    id: int
    data: bytes


class SpanRecord(msgspec.Struct, frozen=True, array_like=True):
    """One step of a request. `parent` is the place of the step around it in its list, -1 for the first one;
    times are of CLOCK_MONOTONIC, seconds."""

    name: str
    parent: int
    began: float
    ended: float
    error: str = ""
    attributes: dict[str, str | int | float | bool] = {}


class Finished(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that the agent answered: `output` is JSON text."""

    id: int
    output: bytes
    spans: list[SpanRecord] = []


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """Requests that are finished and the parts that changed since the last commit.

    With neither `parts` nor `removed`, nothing changed: the host answers no Committed and the worker does
    not wait.
    """

    seq: int
    finished: list[Finished] = []
    parts: dict[str, bytes] = {}
    removed: list[str] = []
    full: bool = False
    """Answers `Snapshot(full=True)`: `parts` is the whole state."""


class Clean(msgspec.Struct, frozen=True, tag="clean"):
    """Answer to Snapshot when nothing changed."""


class Failed(msgspec.Struct, frozen=True, tag="failed", omit_defaults=True):
    """A request that the agent did not answer; nothing of it was kept."""

    id: int
    code: str
    message: str
    spans: list[SpanRecord] = []


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Answer to Ping."""

    number: int


class Log(msgspec.Struct, frozen=True, tag="log", omit_defaults=True):
    """A line for the host's log; `request`: the one that wrote it, 0: none did."""

    level: int
    message: str
    request: int = 0


ToHost = Making | Ready | SetupFailed | Part | Commit | Clean | Failed | Pong | Log

encoder = msgspec.msgpack.Encoder()
to_worker_decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
to_host_decoder: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)


def pack(frame: ToWorker | ToHost) -> bytes:
    """The frame with its length in front; raises ValueError when it is over MAX_FRAME_BYTES."""
    body = encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"frame of {len(body)} bytes is over {MAX_FRAME_BYTES}")
    return len(body).to_bytes(LENGTH_BYTES, "little") + body
