# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions of the group, whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentpool_core.api.v1alpha1 import GROUP, VERSION, AgentInstance, AgentPool
from agentpool_core.crd.rule import Rule
from agentpool_core.crd.rules import (
    AGENT_INSTANCE_BOUNDS,
    AGENT_INSTANCE_RULES,
    AGENT_POOL_BOUNDS,
    AGENT_POOL_RULES,
    QUANTITIES,
    add_bounds,
    add_rules,
    take_numbers,
)
from agentpool_core.crd.structural import Schema, structural

CATEGORY = "agents"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. With `wide` it shows with `-o wide` only."""

    name: str
    path: str
    kind: str = "string"
    about: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """What a definition says beside the fields of its model."""

    model: type[AgentPool] | type[AgentInstance]
    plural: str
    short: str
    about: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    bounds: Mapping[str, Mapping[str, Any]]
    quantities: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None
    selectable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the definition."""
        return f"{self.plural}.{GROUP}"


_READY = '.status.conditions[?(@.type=="Ready")]'
_AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since it was created.")
_REASON = Column("Reason", f"{_READY}.reason", about="Why it is Ready or not.", wide=True)

AGENT_POOL = Kind(
    model=AgentPool,
    plural="agentpools",
    short="ap",
    about="A pool of agents: which agent runs, in which tiers, under which quotas. Misspelt fields are"
    " refused by clients that validate strictly, as kubectl does; without that the API server drops them.",
    columns=(
        Column("Ready", f"{_READY}.status", about="Whether the pool takes requests."),
        Column("Tier", ".status.effective.default_tier", about="Tier of an instance that names none."),
        Column("Warm", ".status.readyReplicas", "integer", "Shared pods that are ready."),
        Column("Waiting", ".status.generic.ready", "integer", "Pods that wait for an instance of their own."),
        Column("Instances", ".status.resident", "integer", "Instances that have a process now."),
        _AGE,
        _REASON,
        Column("Agent", ".spec.agent.entrypoint", about="The agent's class.", wide=True),
    ),
    rules=AGENT_POOL_RULES,
    bounds=AGENT_POOL_BOUNDS,
    quantities=QUANTITIES,
    scale={
        "specReplicasPath": ".spec.tiers.warm.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)

AGENT_INSTANCE = Kind(
    model=AgentInstance,
    plural="agentinstances",
    short="ai",
    about="One tenant's project in a pool: declared by a user, or recorded by the operator for an instance"
    " with a pod of its own. Deleting a declared one ends it and erases its state; deleting a recorded one"
    " ends its pod and keeps its state.",
    columns=(
        Column("Pool", ".spec.pool", about="Its pool."),
        Column("Tenant", ".spec.tenant", about="Whose it is."),
        Column("Project", ".spec.project", about="The tenant's project."),
        Column("Tier", ".status.tier", about="Tier it has."),
        Column("State", ".status.state", about="State of its lifecycle."),
        Column("Pod", ".status.pod", about="Pod that holds it."),
        _AGE,
        _REASON,
        Column("Wanted", ".spec.state", about="State that was declared.", wide=True),
        Column("Epoch", ".status.epoch", "integer", "Fencing number of its ownership.", wide=True),
    ),
    rules=AGENT_INSTANCE_RULES,
    bounds=AGENT_INSTANCE_BOUNDS,
    selectable=(".spec.pool", ".spec.tenant", ".spec.project"),
)

KINDS = (AGENT_POOL, AGENT_INSTANCE)


def object_schema(kind: Kind) -> Schema:
    """The schema of an object of this kind."""
    fields = structural(kind.model)["properties"]
    # The API server has its own schema of metadata and refuses another one.
    fields["metadata"] = {"type": "object"}
    fields["kind"]["description"] = f"Always {kind.model.KIND}."
    fields["status"] = structural(kind.model.STATUS)
    schema = {
        "type": "object",
        "description": kind.about,
        "required": ["spec"],
        "properties": fields,
    }
    take_numbers(schema, kind.quantities)
    add_bounds(schema, kind.bounds)
    add_rules(schema, kind.rules)
    return schema


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale is not None:
        subresources["scale"] = dict(kind.scale)
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": object_schema(kind)},
        "subresources": subresources,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    name = kind.model.KIND
    names = {
        "kind": name,
        "listKind": f"{name}List",
        "plural": kind.plural,
        "singular": name.lower(),
        "shortNames": [kind.short],
        "categories": [CATEGORY],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.name},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _column(column: Column) -> dict[str, Any]:
    written: dict[str, Any] = {"name": column.name, "type": column.kind, "jsonPath": column.path}
    if column.about:
        written["description"] = column.about
    if column.wide:
        written["priority"] = 1
    return written
