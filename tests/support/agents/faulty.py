# SPDX-License-Identifier: Apache-2.0
"""Agents that hurt themselves: for tests that they hurt nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Chunk, Context, Event, Request


class Faulty:
    """Does to itself what its input says, and is an echo otherwise."""

    def __init__(self) -> None:
        self.kept: list[object] = []

    async def setup(self, context: Context) -> None:
        """Fails, hangs or exits when the config says so."""
        match context.config.get("setup"):
            case "raise":
                raise RuntimeError("no database")
            case "hang":
                await asyncio.sleep(3600)
            case "exit":
                os._exit(7)
            case "block":
                time.sleep(3600)  # noqa: ASYNC251 - a hanging agent is what this is

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        context.unchanged()
        match request.input:
            case "crash":
                os.abort()
            case "hang":
                time.sleep(3600)  # noqa: ASYNC251 - a hanging agent is what this is
            case {"spin": seconds}:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    pass
            case {"compute": seconds}:
                compute(seconds)
            case {"wait": seconds}:
                await asyncio.sleep(seconds)
            case "flood":
                while True:
                    yield Chunk("x" * 65536)
            case {"memory": size}:
                self.kept.append(bytearray(size))
            case {"threads": number}:
                for _ in range(number):
                    thread = threading.Thread(target=time.sleep, args=(3600,), daemon=True)
                    thread.start()
                    self.kept.append(thread)
            case {"descriptors": number}:
                self.kept += [os.open(os.devnull, os.O_RDONLY) for _ in range(number)]
            case {"file": size}:
                (context.directory / "file").write_bytes(bytes(size))
            case "print":
                print("printed line")  # noqa: T201
                context.log.info("logged %s", "line")
            case "stubborn":
                while True:
                    try:
                        await asyncio.sleep(3600)
                    except asyncio.CancelledError:
                        continue
        yield Answer(request.input)

    def snapshot(self) -> Mapping[str, bytes]:
        """No state."""
        return {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """No state."""


def compute(seconds: float) -> None:
    """Use so much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
