# SPDX-License-Identifier: Apache-2.0
"""Write into the trackers of several people at once, and print what each has reached.

python diary.py grpc://127.0.0.1:9000
"""

from __future__ import annotations

import asyncio
import sys

from agentpool_client import AgentPool, Answer, Chunk

DIARY = {"ada": ["reading", "running", "reading"], "kim": ["stretching"] * 4, "lou": ["reading"]}


async def write(pool: AgentPool, person: str, habits: list[str]) -> list[Answer]:
    """One person's entries, one after another, through one handle."""
    async with pool.acquire(person, "diary") as tracker:
        return [await tracker.invoke({"did": habit}) for habit in habits]


async def report(pool: AgentPool, person: str) -> str:
    """One person's report, whose lines come one by one."""
    lines = [event.data async for event in pool.stream(person, "diary", "report") if isinstance(event, Chunk)]
    return f"{person}: {', '.join(lines)}"


async def main(url: str) -> None:
    """Everybody at once, then the reports."""
    async with AgentPool(url, timeout_seconds=30) as pool:
        written = await asyncio.gather(*(write(pool, person, habits) for person, habits in DIARY.items()))
        for person in DIARY:
            sys.stdout.write(await report(pool, person) + "\n")
    answers = [answer for answers in written for answer in answers]
    direct = sum(answer.direct for answer in answers)
    sys.stdout.write(f"{direct} of {len(answers)} entries went straight to their host\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:9000"))
