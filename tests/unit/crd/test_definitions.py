# SPDX-License-Identifier: Apache-2.0
"""The definitions keep Kubernetes' rules for structural schemas and the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from agentpool_core.api import quantity
from agentpool_core.api.v1alpha1 import AgentPoolSpec
from agentpool_core.crd import KINDS, Kind, definition, object_schema, text
from agentpool_core.crd.definition import AGENT_POOL
from agentpool_core.crd.rules import QUANTITIES, field_at

KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model.KIND)
ALLOWED = {
    *("type", "description", "properties", "items", "additionalProperties", "required", "enum", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"),
    *("minItems", "maxItems", "nullable"),
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below one, with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}".lstrip("."))
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


@KIND
def test_only_keys_of_a_structural_schema(kind: Kind) -> None:
    foreign = {
        f"{path}: {key}"
        for path, schema in nodes(object_schema(kind))
        for key in schema
        if key not in ALLOWED and not key.startswith("x-kubernetes-")
    }
    assert foreign == set()


@KIND
def test_no_field_has_a_default(kind: Kind) -> None:
    assert [path for path, schema in nodes(object_schema(kind)) if "default" in schema] == []


@KIND
def test_every_node_has_a_type_or_says_why_not(kind: Kind) -> None:
    free = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
    bare = [
        path
        for path, schema in nodes(object_schema(kind))
        if "type" not in schema and not any(schema.get(mark) for mark in free)
    ]
    assert bare == []


@KIND
def test_every_field_is_described(kind: Kind) -> None:
    bare = [
        path
        for path, schema in nodes(object_schema(kind))
        if not schema.get("description") and not path.endswith(("[]", "{}")) and path != "metadata"
    ]
    assert bare == []


@KIND
def test_rules_are_about_fields_that_exist_and_name_them(kind: Kind) -> None:
    schema = object_schema(kind)
    for rule in kind.rules:
        about = f"{rule.path}{rule.field}"
        assert field_at(schema, about)
        assert rule.message.startswith(about or "metadata.name"), rule.message
        assert ": " in rule.message, f"no remedy: {rule.message}"
        assert len(rule.message) < 2048
        assert "\n" not in rule.message + rule.cel


@KIND
def test_text_that_rules_read_is_bounded(kind: Kind) -> None:
    schema = object_schema(kind)
    for rule in kind.rules:
        field = field_at(schema, rule.path)
        if "matches" in rule.cel and rule.path:
            assert "maxLength" in field or "maxItems" in field, rule.path


@KIND
def test_columns_and_scale_lead_to_fields(kind: Kind) -> None:
    version = definition(kind)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += version["subresources"].get("scale", {}).values()
    paths += [field["jsonPath"] for field in version.get("selectableFields", [])]
    for path in paths:
        steps = path.removeprefix(".").split("[")[0]
        if steps.startswith("metadata.") or steps.startswith("status.effective."):
            continue
        assert field_at(schema, steps)


@KIND
def test_both_resources_have_status_short_name_and_category(kind: Kind) -> None:
    spec = definition(kind)["spec"]
    assert spec["versions"][0]["subresources"]["status"] == {}
    assert spec["names"]["shortNames"] == [kind.short]
    assert spec["names"]["categories"] == ["agents"]
    assert spec["scope"] == "Namespaced"


@KIND
def test_conditions_merge_by_type(kind: Kind) -> None:
    conditions = field_at(object_schema(kind), "status.conditions")
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@KIND
def test_the_text_is_the_definition_without_references(kind: Kind) -> None:
    assert yaml.safe_load(text(kind)) == definition(kind)
    assert text(kind) == text(kind)
    assert "&id" not in text(kind)


def quantities(model: type[BaseModel], path: str) -> Iterator[str]:
    """Paths of the fields that are quantities, from the models themselves."""
    checks = {quantity.Memory, quantity.Cpu}
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}"
        for part in (field.annotation, *get_args(field.annotation)):
            if part in checks:
                yield here
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from quantities(part, here)


def test_every_quantity_takes_numbers_and_text() -> None:
    assert set(quantities(AgentPoolSpec, "spec")) == set(QUANTITIES)
    schema = object_schema(AGENT_POOL)
    for path in QUANTITIES:
        assert field_at(schema, path)["x-kubernetes-int-or-string"] is True
