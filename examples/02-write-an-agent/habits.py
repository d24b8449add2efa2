# SPDX-License-Identifier: Apache-2.0
"""An agent that keeps count of habits: `{"did": "stretching"}` adds one, `"report"` shows all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Chunk, Context, Event, Rejected, Request


class HabitTracker:
    """One object for one tenant and project, in a process of its own."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.goal = 3

    async def setup(self, context: Context) -> None:
        """Called once, before anything else."""
        self.goal = int(context.config.get("goal", 3))

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Serve one request: chunks if there are any, then exactly one Answer."""
        match request.input:
            case "report":
                context.unchanged()
                for habit, times in self.counts.most_common():
                    yield Chunk(f"{habit}: {times}")
                yield Answer({"habits": dict(self.counts), "goal": self.goal})
            case {"did": str(habit)} if habit.strip():
                self.counts[habit] += 1
                times = self.counts[habit]
                yield Answer({"habit": habit, "times": times, "goal_reached": times >= self.goal})
            case _:
                raise Rejected('Send "report" or {"did": "the name of a habit"}.')

    def snapshot(self) -> Mapping[str, bytes]:
        """The whole state, as named parts. It is saved before the answer leaves."""
        return {"counts": json.dumps(self.counts).encode()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take on a saved state; no parts means: as new."""
        self.counts = Counter(json.loads(parts.get("counts", b"{}")))
