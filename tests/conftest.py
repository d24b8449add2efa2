# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: time limits by folder, and the detection of blocking calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import is_hypothesis_test, settings

HERE = Path(__file__).parent
SECONDS = {
    "unit": 2,
    "component": 120,
    "chart": 60,
    "integration": 120,
    "docs": 180,
    "performance": 300,
    "model": 900,
    "cluster": 900,
    "e2e": 300,
}
PROPERTY_SECONDS = 20
"""Least limit of a property test, which is many examples in one."""

# The limit of a test is its folder's; a deadline per example would fail on a busy machine alone.
settings.register_profile("agentpool", deadline=None, max_examples=60)
settings.load_profile("agentpool")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its folder's limit, unless it has one of its own."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if folder in SECONDS and item.get_closest_marker("timeout") is None:
            is_property = is_hypothesis_test(getattr(item, "obj", None)) or issubclass(
                getattr(item, "cls", None) or object, TestCase
            )
            least = PROPERTY_SECONDS if is_property else 0
            item.add_marker(pytest.mark.timeout(max(SECONDS[folder], least)))


@pytest.fixture
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Code that blocks an event loop raises BlockingError; for servers run inside the test's process."""
    with blockbuster_ctx() as detector:
        yield detector
