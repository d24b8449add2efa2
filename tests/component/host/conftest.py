# SPDX-License-Identifier: Apache-2.0
"""A redis-server of each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.redis import RedisServer, redis_server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """Gone at the end of the test."""
    with redis_server() as server:
        yield server
