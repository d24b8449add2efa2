# SPDX-License-Identifier: Apache-2.0
"""From a pydantic model to a structural schema, the form of OpenAPI v3 that a CustomResourceDefinition takes.

pydantic writes JSON schema 2020-12, which has references, `null` in unions and numeric exclusive bounds; a
structural schema has none of them. What has no rewrite here is an error, not a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
        "type",
    }
)
"""Keys that mean the same in both forms. `x-kubernetes-*` are kept as well."""

_DROPPED = frozenset({"$defs", "default", "examples", "propertyNames", "title"})
"""A default in the schema would hide which fields were set; a structural schema says nothing of keys."""


class NotStructural(ValueError):
    """A schema that has no structural form; the text names the place and the key."""


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, references resolved. Raises NotStructural."""
    schema = model.model_json_schema(by_alias=True)
    try:
        return _convert(schema, schema.get("$defs", {}), model.__name__)
    except RecursionError as exc:
        raise NotStructural(f"{model.__name__}: a type that contains itself") from exc


def _convert(schema: Mapping[str, Any], definitions: Mapping[str, Any], place: str) -> Schema:
    plain = _plain(schema, definitions)
    if "allOf" in plain or "anyOf" in plain or "oneOf" in plain:
        raise NotStructural(f"{place}: a union of several types")
    found: Schema = {}
    for key, value in plain.items():
        if key in _KEPT or key.startswith("x-kubernetes-"):
            found[key] = value
        elif key == "const":
            found["enum"] = [value]
        elif key in ("exclusiveMinimum", "exclusiveMaximum"):
            found |= {key.removeprefix("exclusive").lower(): value, key: True}
        elif key == "properties":
            found[key] = {
                name: _convert(part, definitions, f"{place}.{name}") for name, part in value.items()
            }
        elif key == "items":
            found[key] = _convert(value, definitions, f"{place}[]")
        elif key == "additionalProperties":
            found |= _map_of(value, definitions, place)
        elif key not in _DROPPED:
            raise NotStructural(f"{place}: {key}")
    if "type" not in found and "x-kubernetes-int-or-string" not in found:
        found["x-kubernetes-preserve-unknown-fields"] = True
    return found


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """`schema` without reference and without `null`; what stands beside these wins over what they lead to."""
    inner: Mapping[str, Any] = {}
    rest = dict(schema)
    if "$ref" in rest:
        inner = _plain(definitions[rest.pop("$ref").removeprefix("#/$defs/")], definitions)
    elif "anyOf" in rest:
        choices = [choice for choice in rest["anyOf"] if choice != {"type": "null"}]
        if len(choices) == 1:
            del rest["anyOf"]
            inner = _plain(choices[0], definitions)
    return {**inner, **rest}


def _map_of(value: object, definitions: Mapping[str, Any], place: str) -> Schema:
    if value is False:
        # Not allowed beside `properties`; the API server prunes or refuses unknown fields itself.
        return {}
    if value is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    if isinstance(value, Mapping):
        return {"additionalProperties": _convert(value, definitions, f"{place}{{}}")}
    raise NotStructural(f"{place}: additionalProperties {value!r}")
