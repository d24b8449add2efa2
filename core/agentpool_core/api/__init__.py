# SPDX-License-Identifier: Apache-2.0
"""The resources that users write, and how a manifest is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentpool_core.later import later

if TYPE_CHECKING:
    from agentpool_core.api.manifest import ManifestError, load_manifests
    from agentpool_core.api.reading import read_object
    from agentpool_core.api.v1alpha1 import AgentInstance, AgentPool

__all__ = ["AgentInstance", "AgentPool", "ManifestError", "load_manifests", "read_object"]

_LATER = {
    "AgentInstance": "v1alpha1",
    "AgentPool": "v1alpha1",
    "ManifestError": "manifest",
    "load_manifests": "manifest",
    "read_object": "reading",
}

__getattr__ = later(__name__, _LATER)
