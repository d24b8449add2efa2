# SPDX-License-Identifier: Apache-2.0
"""The resources that users write, and how a manifest is read."""

from agentpool_core.api.manifest import ManifestError, load_manifests
from agentpool_core.api.reading import read_object
from agentpool_core.api.v1alpha1 import AgentInstance, AgentPool

__all__ = ["AgentInstance", "AgentPool", "ManifestError", "load_manifests", "read_object"]
