# SPDX-License-Identifier: Apache-2.0
"""Many requests over one call: what is sent, and what each of them learns of its end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc.aio import AioRpcError, Metadata

from agentpool_core.errors import InstanceCrashed, Unauthenticated
from agentpool_gateway.membership import many
from agentpool_gateway.membership.many import Asked, ManyCall
from agentpool_proto.v1.host_pb2 import (
    HostInvokeRequest,
    HostInvokeResponse,
    InvokeManyRequest,
    InvokeManyResponse,
    NumberedOutcome,
)
from agentpool_proto.v1.types_pb2 import Accepted, Done
from agentpool_rpc.acceptance import ACCEPTED, tells_acceptance
from agentpool_rpc.status import TRAILER, from_rpc_error, to_status
from support.waiting import eventually

INSTANCE = "inst-1"


class FakeCall:
    """A call whose other side a test plays."""

    def __init__(self) -> None:
        self.sent: list[InvokeManyRequest] = []
        self.open = asyncio.Event()
        self.open.set()
        self.cancelled = False
        self.taken = True
        self._answers: asyncio.Queue[InvokeManyResponse | BaseException | None] = asyncio.Queue(100)

    async def initial_metadata(self) -> Metadata:
        """The host takes the call, or does not."""
        return Metadata(*ACCEPTED) if self.taken else Metadata()

    async def write(self, batch: InvokeManyRequest) -> None:
        """It arrives, unless the connection is full."""
        await self.open.wait()
        self.sent.append(batch)

    async def read(self) -> Any:
        """What the test puts there; EOF for None."""
        found = await self._answers.get()
        if isinstance(found, BaseException):
            raise found
        return grpc.aio.EOF if found is None else found

    def cancel(self) -> None:
        """Noted."""
        self.cancelled = True

    def accepts(self, *numbers: int) -> None:
        """The host tells so."""
        self._answers.put_nowait(InvokeManyResponse(accepted=numbers))

    def answers(self, number: int, output: bytes = b"1") -> None:
        """The host has an answer."""
        answer = HostInvokeResponse(accepted=Accepted(instance_id=INSTANCE), done=Done(output=output))
        outcome = NumberedOutcome(number=number, answer=answer)
        self._answers.put_nowait(InvokeManyResponse(outcomes=[outcome]))

    def fails(self, number: int) -> None:
        """The host has an error."""
        failure = to_status(InstanceCrashed("It crashed.")).SerializeToString()
        outcome = NumberedOutcome(number=number, failure=failure)
        self._answers.put_nowait(InvokeManyResponse(outcomes=[outcome]))

    def ends(self, cause: BaseException | None = None) -> None:
        """The call is over."""
        self._answers.put_nowait(cause)

    @property
    def numbers(self) -> list[list[int]]:
        """Of the requests of each message."""
        return [[one.number for one in batch.requests] for batch in self.sent]


def broken(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> AioRpcError:
    """What gRPC raises."""
    return AioRpcError(code, Metadata(), Metadata(), "Socket closed")


class Bench:
    """One ManyCall with the calls that it makes."""

    def __init__(self) -> None:
        self.calls: list[FakeCall] = []
        self.taken = True
        self.tokens: list[str] = []
        self.many = ManyCall(self)

    def InvokeMany(self, metadata: tuple[tuple[str, str], ...]) -> FakeCall:  # the name is the protocol's
        """See host.proto."""
        self.tokens += [value for _, value in metadata]
        self.calls.append(FakeCall())
        self.calls[-1].taken = self.taken
        return self.calls[-1]

    def ask(self, *, token: str = "Bearer a", seconds: float = 5.0) -> Asked:
        """One request."""
        return self.many.ask(HostInvokeRequest(project_id="p"), token, seconds)

    async def sent(self, *numbers: int) -> FakeCall:
        """The last call, once these numbers have been sent with it."""

        def there() -> bool:
            return bool(self.calls) and sum(self.calls[-1].numbers, []) == list(numbers)

        await eventually(there, 5)
        return self.calls[-1]


async def error_of(asked: Asked) -> AioRpcError:
    """What it failed with."""
    with pytest.raises(AioRpcError) as raised:
        await asked
    return raised.value


async def test_what_is_asked_together_goes_in_one_message_and_each_has_its_own_answer() -> None:
    bench = Bench()
    first, second = bench.ask(), bench.ask()
    call = await bench.sent(1, 2)
    assert call.numbers == [[1, 2]]
    assert call.sent[0].authorization == "Bearer a"
    call.accepts(1, 2)
    call.answers(2, b"two")
    call.answers(1, b"one")
    assert ((await first).done.output, (await second).done.output) == (b"one", b"two")


async def test_what_is_asked_while_a_message_is_on_its_way_goes_with_the_next() -> None:
    bench = Bench()
    bench.ask()
    call = await bench.sent(1)
    call.open.clear()
    bench.ask()
    await asyncio.sleep(0)
    for _ in range(3):
        bench.ask()
        await asyncio.sleep(0)
    call.open.set()
    await bench.sent(1, 2, 3, 4, 5)
    assert len(call.sent) == 3
    await bench.many.close(0)


async def test_a_message_has_one_token() -> None:
    bench = Bench()
    for token in ("Bearer a", "Bearer a", "Bearer b"):
        bench.ask(token=token)
    call = await bench.sent(1, 2, 3)
    assert [(batch.authorization, len(batch.requests)) for batch in call.sent] == [
        ("Bearer a", 2),
        ("Bearer b", 1),
    ]
    await bench.many.close(0)


async def test_an_error_of_the_host_is_that_of_a_call_of_its_own() -> None:
    bench = Bench()
    asked, other = bench.ask(), bench.ask()
    call = await bench.sent(1, 2)
    call.accepts(1)
    call.fails(1)
    call.fails(2)
    error = await error_of(asked)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert isinstance(from_rpc_error(error), InstanceCrashed)
    assert tells_acceptance(error.initial_metadata())
    assert not tells_acceptance((await error_of(other)).initial_metadata())


@pytest.mark.parametrize("cause", [broken(), None], ids=["it breaks", "the host ends it"])
async def test_the_end_of_the_call_is_a_break_for_each_and_the_next_makes_a_new_one(
    cause: BaseException | None,
) -> None:
    bench = Bench()
    accepted, waiting = bench.ask(), bench.ask()
    call = await bench.sent(1, 2)
    call.accepts(1)
    call.ends(cause)
    errors = [await error_of(asked) for asked in (accepted, waiting)]
    assert [error.code() for error in errors] == [grpc.StatusCode.UNAVAILABLE] * 2
    assert [tells_acceptance(error.initial_metadata()) for error in errors] == [True, False]
    assert [from_rpc_error(error) for error in errors] == [None, None]
    again = bench.ask()
    (await bench.sent(3)).answers(3)
    assert (await again).done.output == b"1"
    assert len(bench.calls) == 2


async def test_a_call_that_is_refused_is_refused_to_each() -> None:
    bench = Bench()
    asked = bench.ask(token="Bearer old")
    status = to_status(Unauthenticated("Another host.")).SerializeToString()
    code, trailing = grpc.StatusCode.UNAUTHENTICATED, Metadata((TRAILER, status))
    (await bench.sent(1)).ends(AioRpcError(code, Metadata(), trailing, "Another host."))
    assert isinstance(from_rpc_error(await error_of(asked)), Unauthenticated)
    assert bench.tokens == ["Bearer old"]


async def test_a_host_that_does_not_know_the_method_is_not_asked_this_way_again() -> None:
    bench = Bench()
    bench.taken = False
    asked = bench.ask()
    call = await bench.sent()
    await asyncio.sleep(0.01)
    assert not call.sent, "what is written could hide why the call ends"
    call.ends(broken(grpc.StatusCode.UNIMPLEMENTED))
    assert (await error_of(asked)).code() is grpc.StatusCode.UNIMPLEMENTED
    assert not bench.many.takes(HostInvokeRequest(), INSTANCE)


async def test_a_deadline_ends_the_request_here_and_there() -> None:
    bench = Bench()
    accepted, waiting = bench.ask(seconds=0.1), bench.ask(seconds=0.1)
    call = await bench.sent(1, 2)
    call.accepts(1)
    errors = [await error_of(asked) for asked in (accepted, waiting)]
    assert {error.code() for error in errors} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert [tells_acceptance(error.initial_metadata()) for error in errors] == [True, False]
    await eventually(lambda: [n for batch in call.sent for n in batch.cancelled] == [1, 2], 5)
    # What arrives too late is nobody's.
    call.answers(1)
    last = bench.ask()
    await bench.sent(1, 2, 3)
    call.answers(3)
    await last


async def test_the_host_is_told_of_a_caller_that_left_if_it_knew_of_the_request() -> None:
    bench = Bench()
    left = bench.ask()
    left.cancel()
    known = bench.ask()
    call = await bench.sent(2)
    known.cancel()
    await eventually(lambda: [n for batch in call.sent for n in batch.cancelled] == [2], 5)
    answered = bench.ask()
    await bench.sent(2, 3)
    call.answers(3)
    await answered
    answered.cancel()
    bench.ask()
    await bench.sent(2, 3, 4)
    assert [n for batch in call.sent for n in batch.cancelled] == [2]
    await bench.many.close(0)


async def test_large_ones_have_calls_of_their_own() -> None:
    bench = Bench()
    assert bench.many.takes(HostInvokeRequest(input=bytes(many.SMALL_BYTES)), INSTANCE)
    assert not bench.many.takes(HostInvokeRequest(input=bytes(many.SMALL_BYTES + 1)), INSTANCE)
    asked = bench.ask()
    (await bench.sent(1)).answers(1, bytes(many.SMALL_BYTES + 1))
    await asked
    assert not bench.many.takes(HostInvokeRequest(), INSTANCE)
    assert bench.many.takes(HostInvokeRequest(), "inst-2")


async def test_no_more_wait_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MAX_PENDING", 2)
    bench = Bench()
    asked = [bench.ask(), bench.ask()]
    assert not bench.many.takes(HostInvokeRequest(), INSTANCE)
    asked[0].cancel()
    call = await bench.sent(2)
    assert bench.many.takes(HostInvokeRequest(), INSTANCE)
    # Nor do those pile up that were given up before they could be written.
    call.open.clear()
    for _ in range(3):
        bench.ask().cancel()
        await asyncio.sleep(0)
    assert not bench.many.takes(HostInvokeRequest(), INSTANCE)
    call.open.set()
    await eventually(lambda: bench.many.takes(HostInvokeRequest(), INSTANCE), 5)
    await bench.many.close(0)


async def test_at_the_end_it_waits_for_answers_and_tells_of_none_that_it_was_not_accepted() -> None:
    bench = Bench()
    quick, slow = bench.ask(), bench.ask()
    call = await bench.sent(1, 2)
    asyncio.get_running_loop().call_later(0.05, call.answers, 1)
    await bench.many.close(0.3)
    assert (await quick).done.output == b"1"
    assert tells_acceptance((await error_of(slow)).initial_metadata())
    assert call.cancelled
    assert not bench.many.takes(HostInvokeRequest(), INSTANCE)
