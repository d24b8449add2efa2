# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another process will do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from itertools import repeat
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02


async def eventually(check: Callable[[], bool | Awaitable[bool]], seconds: float = 10.0) -> None:
    """Return once `check` says yes; TimeoutError when it does not in time."""
    async with asyncio.timeout(seconds):
        for pause in repeat(POLL_SECONDS):
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(pause)


async def admitted(call: Callable[[], Awaitable[T]], refusal: type[Exception], seconds: float = 5.0) -> T:
    """The result of the first attempt that is not refused in this way; TimeoutError if none is in time."""
    async with asyncio.timeout(seconds):
        for pause in repeat(POLL_SECONDS):
            try:
                return await call()
            except refusal:
                await asyncio.sleep(pause)
    raise AssertionError("repeat ends never")
