# SPDX-License-Identifier: Apache-2.0
"""`context.exclusive()`: fairness, the moment between two holders, cancellation."""

from __future__ import annotations

import asyncio

from agentpool_agent.worker.gate import Gate


async def test_between_two_holders_there_is_a_moment_in_which_nobody_holds() -> None:
    moments: list[bool] = []
    gate = Gate(lambda: moments.append(gate.held))
    order: list[int] = []

    async def hold(number: int) -> None:
        await gate.acquire()
        order.append(number)
        await asyncio.sleep(0)
        gate.release()

    await asyncio.gather(*(hold(number) for number in range(3)))
    await asyncio.sleep(0)
    assert order == [0, 1, 2]
    assert moments == [False, False, False]


async def test_a_cancelled_waiter_does_not_keep_the_gate_shut() -> None:
    gate = Gate(lambda: None)
    await gate.acquire()
    waiter = asyncio.ensure_future(gate.acquire())
    await asyncio.sleep(0)
    gate.release()
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await gate.acquire()
