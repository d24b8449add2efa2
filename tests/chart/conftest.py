# SPDX-License-Identifier: Apache-2.0
"""Helm of this machine; without one there is nothing to render with."""

from __future__ import annotations

import pytest

from tools.manifests import HelmMissing, helm


@pytest.fixture(autouse=True, scope="session")
def _helm() -> None:
    """`make cluster-up` builds helm, and `make test` runs it first; alone, these tests can do without."""
    try:
        helm()
    except HelmMissing as exc:
        pytest.skip(str(exc))
