# SPDX-License-Identifier: Apache-2.0
"""Models become structural schemas: what pydantic writes otherwise is rewritten, and the rest is refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentpool_core.crd import NotStructural, structural


class Colour(StrEnum):
    """A colour."""

    RED = "Red"
    BLUE = "Blue"


class Inner(BaseModel):
    """What every Inner is."""

    number: int = 3


class Model(BaseModel):
    """One field of each form."""

    plain: str = Field(title="Plain", description="About plain.")
    inner: Inner
    named: Inner = Field(description="What this Inner is.")
    unset: Inner | None = Field(default=None, description="What that Inner is.")
    colour: Colour | None = None
    fixed: Literal["one"] = "one"
    above: Annotated[float, Field(gt=0)] = 1
    below: Annotated[int, Field(lt=5)] = 1
    listed: tuple[Inner, ...] = ()
    free: dict[str, Any] | None = None
    anything: Any = None
    by_colour: dict[Colour, int] = Field(default_factory=dict)
    marked: list[str] = Field(default_factory=list, json_schema_extra={"x-kubernetes-list-type": "set"})


INNER = {"type": "object", "properties": {"number": {"type": "integer"}}}
FORMS = {
    "a title is dropped": ("plain", {"type": "string", "description": "About plain."}),
    "a reference is written out": ("inner", {**INNER, "description": "What every Inner is."}),
    "a field's description wins over its type's": ("named", {**INNER, "description": "What this Inner is."}),
    "null is no choice": ("unset", {**INNER, "description": "What that Inner is."}),
    "an enumeration stays one": (
        "colour",
        {"type": "string", "enum": ["Red", "Blue"], "description": "A colour."},
    ),
    "a constant is an enumeration of one": ("fixed", {"type": "string", "enum": ["one"]}),
    "an open lower bound is a flag": ("above", {"type": "number", "minimum": 0, "exclusiveMinimum": True}),
    "an open upper bound is a flag": ("below", {"type": "integer", "maximum": 5, "exclusiveMaximum": True}),
    "items are converted": (
        "listed",
        {"type": "array", "items": {**INNER, "description": "What every Inner is."}},
    ),
    "free objects keep what they hold": (
        "free",
        {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    ),
    "a field of any type keeps what it holds": ("anything", {"x-kubernetes-preserve-unknown-fields": True}),
    "a map has values": ("by_colour", {"type": "object", "additionalProperties": {"type": "integer"}}),
    "marks for Kubernetes stay": (
        "marked",
        {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    ),
}


@pytest.mark.parametrize(("field", "wanted"), FORMS.values(), ids=FORMS)
def test_each_form_has_its_structural_one(field: str, wanted: dict[str, Any]) -> None:
    assert structural(Model)["properties"][field] == wanted


class Union(BaseModel):
    """Two types."""

    either: int | str


class Tree(BaseModel):
    """Contains itself."""

    branches: list[Tree]


class Pair(BaseModel):
    """Types by place."""

    both: tuple[int, str]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        pytest.param(Union, "Union.either: a union", id="a union of two types has none"),
        pytest.param(Tree, "Tree: a type that contains itself", id="a type that contains itself has none"),
        pytest.param(Pair, "Pair.both: prefixItems", id="a list with types by place has none"),
    ],
)
def test_what_has_no_structural_form_is_refused(model: type[BaseModel], text: str) -> None:
    with pytest.raises(NotStructural, match=text):
        structural(model)
