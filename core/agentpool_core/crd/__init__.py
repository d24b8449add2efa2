# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions from the models of `agentpool_core.api`."""

from __future__ import annotations

import yaml

from agentpool_core.crd.definition import KINDS, Kind, definition, object_schema
from agentpool_core.crd.structural import NotStructural, structural

__all__ = ["KINDS", "Kind", "NotStructural", "definition", "file_name", "object_schema", "structural", "text"]


class _Plain(yaml.SafeDumper):
    """Writes a value out each time; a Kubernetes client need not know YAML's references."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def file_name(kind: Kind) -> str:
    """Name of the file that holds a definition."""
    return f"{kind.name.partition('.')[2]}_{kind.plural}.yaml"


def text(kind: Kind) -> str:
    """The definition as YAML; the same model gives the same bytes."""
    return yaml.dump(definition(kind), Dumper=_Plain, sort_keys=True, width=100, allow_unicode=True)
