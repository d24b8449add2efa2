# SPDX-License-Identifier: Apache-2.0
"""A gateway that gives leases, before a real host."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.clients import KINDS
from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine

LEASES = {"direct_access": True}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which client."""
    return str(request.param)


@pytest.fixture
async def spine() -> AsyncIterator[Spine]:
    """One host, one gateway."""
    async with running_spine(pool_config(agent=COUNTER, storage="Redis"), settings=LEASES) as running:
        yield running
