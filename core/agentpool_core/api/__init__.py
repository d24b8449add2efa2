# SPDX-License-Identifier: Apache-2.0
"""The resources that users write, and how a manifest is read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    # A host reads no manifest: its start does not pay for the classes of the resources.
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
