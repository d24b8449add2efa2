# SPDX-License-Identifier: Apache-2.0
"""Mutations of an AgentPool's spec, one field at a time, drawn by hypothesis from the definition's schema."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from support.repository import ROOT

DEFINITION = ROOT / "crds" / "agentpool.dev_agentpools.yaml"
Schema = Mapping[str, Any]
Field = tuple[str, ...]

RUNTIMES = ("sandboxed", "plain")
"""RuntimeClasses that the API server of the campaigns has: pods of others are refused."""
_QUANTITIES = st.sampled_from(["250m", "2", "1.5", "512Mi", "2Gi", "1e3", 1, 4])
_NOT_QUANTITIES = st.sampled_from(["", "lots", "-1", "0", "1 Gi", 0, -4, True])
_WORDS: Mapping[str, st.SearchStrategy[Any]] = {
    "entrypoint": st.from_regex(r"\A[a-z]{1,8}(\.[a-z]{1,8}){0,2}:[A-Z][a-z]{1,8}\Z"),
    "image": st.from_regex(r"\Aregistry\.test/[a-z]{1,8}:[0-9]{1,2}\Z"),
    "runtimeClassName": st.sampled_from(RUNTIMES),
    "imagePullSecrets": st.lists(
        st.from_regex(r"\A[a-z][a-z0-9]{0,10}\Z"), min_size=1, max_size=3, unique=True
    ),
    "config": st.dictionaries(
        st.sampled_from(["a", "b", "deep"]), st.integers(0, 9) | st.booleans(), min_size=1
    ),
    "required": st.lists(
        st.sampled_from(["Landlock", "Seccomp", "User"]), min_size=1, max_size=2, unique=True
    ),
}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change.

    Attributes:
        value: what the field becomes; None: it is left out.
        lawful: meant to be accepted; otherwise it is a mistake that should be refused.
    """

    field: Field
    value: Any
    lawful: bool = True

    def __str__(self) -> str:
        return f"spec.{'.'.join(self.field)} = {self.value!r:.60}"


def spec_schema(path: Path = DEFINITION) -> Schema:
    """The schema of `spec` as the definition has it."""
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def fields(schema: Schema, at: Field = ()) -> Iterator[tuple[Field, Schema]]:
    """Every field that is not an object of fields, with its schema."""
    for name, one in sorted((schema.get("properties") or {}).items()):
        if one.get("properties"):
            yield from fields(one, (*at, name))
        else:
            yield (*at, name), one


def lawful(field: Field, schema: Schema) -> st.SearchStrategy[Any]:
    """Values that the schema takes."""
    if field[-1] in _WORDS:
        return _WORDS[field[-1]]
    if schema.get("x-kubernetes-int-or-string"):
        return _QUANTITIES
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    least = schema.get("minimum", 0)
    most = schema.get("maximum", least + 50)
    if schema["type"] == "integer":
        return st.integers(least, most)
    if schema["type"] == "number":
        return st.integers(1, 500).map(lambda tenths: max(least, 0) + tenths / 10)
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "array":
        return st.lists(st.from_regex(r"\A[a-z]{1,8}\Z"), max_size=3)
    return st.from_regex(r"\A[a-z][a-z0-9]{0,10}\Z")


def mistaken(field: Field, schema: Schema) -> st.SearchStrategy[Any]:
    """Values that the schema, or common sense, refuses."""
    if schema.get("x-kubernetes-int-or-string"):
        return _NOT_QUANTITIES
    wrong: dict[str, list[Any]] = {
        "integer": ["many", -1, 1.5, [], 2**70],
        "number": ["long", -0.5, {}, 0],
        "boolean": ["yes", 2, []],
        "array": ["one", {"a": 1}, [1, 2]],
        "object": ["text", 3, [1]],
        "string": [7, [], "no such thing!", "\u0000", "x" * 600],
    }
    return st.sampled_from(wrong[schema["type"]])


def mutations(schema: Schema) -> st.SearchStrategy[Mutation]:
    """One change of one field: five in six lawful, some of them leaving the field out."""

    def of(pair: tuple[Field, Schema]) -> st.SearchStrategy[Mutation]:
        field, one = pair
        good = lawful(field, one).map(lambda value: Mutation(field, value))
        out = st.just(Mutation(field, None))
        bad = mistaken(field, one).map(lambda value: Mutation(field, value, lawful=False))
        kinds = (
            [good, good, good, good, bad]
            if field == ("agent", "entrypoint")
            else [good, good, good, out, bad]
        )
        return st.one_of(*kinds)

    return st.sampled_from(list(fields(schema))).flatmap(of)


def draw(count: int, number: int, schema: Schema) -> list[Mutation]:
    """That many mutations, the same for the same number."""
    drawn: list[Mutation] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(schema))
    def note(one: Mutation) -> None:
        drawn.append(one)

    while len(drawn) < count:
        note()
    return drawn[:count]


def mutate(spec: Mapping[str, Any], mutation: Mutation) -> dict[str, Any]:
    """The spec with one field changed; empty objects on the way are left out."""
    found: dict[str, Any] = copy.deepcopy(dict(spec))
    *path, last = mutation.field
    place = found
    for name in path:
        place = place.setdefault(name, {})
    if mutation.value is None:
        place.pop(last, None)
    else:
        place[last] = mutation.value
    return {key: value for key, value in found.items() if value != {}}


def nodes(value: Any, at: Field = ()) -> Iterator[tuple[Field, Any]]:
    """Everything in an object, with the way to it."""
    yield at, value
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from nodes(one, (*at, str(name)))
