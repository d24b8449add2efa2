# SPDX-License-Identifier: Apache-2.0
"""A store whose calls are timed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from agentpool_core.errors import StoreUnavailable

from .base import Store

OPERATIONS = tuple(name for name, found in vars(Store).items() if inspect.iscoroutinefunction(found))
"""The calls of a store that take time; there are no others."""

Observe = Callable[[str, float, bool], None]
"""Told of each call: its name, its seconds, and whether the store did not answer it."""


def measured(store: Store, observe: Observe) -> Store:
    """The same store, timed. An answer that refuses counts as an answer."""
    return cast("Store", _Measured(store, observe))


class _Measured:
    def __init__(self, store: Store, observe: Observe) -> None:
        self._store = store
        for name in OPERATIONS:
            setattr(self, name, _timed(name, getattr(store, name), observe))

    def __getattr__(self, name: str) -> Any:
        # What is no call: `shared`.
        return getattr(self._store, name)


def _timed(name: str, call: Callable[..., Awaitable[Any]], observe: Observe) -> Callable[..., Awaitable[Any]]:
    async def timed(*args: Any, **keywords: Any) -> Any:
        began, silent = time.monotonic(), False
        try:
            return await call(*args, **keywords)
        except StoreUnavailable:
            silent = True
            raise
        finally:
            observe(name, time.monotonic() - began, silent)

    return timed
