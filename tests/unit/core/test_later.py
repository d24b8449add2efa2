# SPDX-License-Identifier: Apache-2.0
"""Packages of the core that load a part of themselves with its first use."""

from __future__ import annotations

from types import ModuleType

import pytest

from agentpool_core import api, config
from agentpool_core.api import v1alpha1


@pytest.mark.parametrize("package", (api, v1alpha1, config), ids=lambda package: package.__name__)
def test_every_public_name_is_there_and_no_other_is_made_up(package: ModuleType) -> None:
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name
