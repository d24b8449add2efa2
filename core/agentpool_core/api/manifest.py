# SPDX-License-Identifier: Apache-2.0
"""Manifests: YAML text in, `AgentPool` and `AgentInstance` objects out, or every problem at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from agentpool_core.api.problems import BadValue, Problem
from agentpool_core.api.v1alpha1 import API_VERSION, AgentInstance, AgentPool
from agentpool_core.errors import InvalidRequest

MAX_CHARS = 1024 * 1024
"""Longest manifest, in characters: larger than what the API server takes as one object."""

MAX_VALUES = 100_000
"""Most values of one document, each alias counted as often as it is used."""

KINDS: Mapping[str, type[AgentPool] | type[AgentInstance]] = {
    AgentPool.KIND: AgentPool,
    AgentInstance.KIND: AgentInstance,
}


class ManifestError(InvalidRequest):
    """A manifest that is refused, with all its problems in `problems`."""

    code = "ManifestInvalid"
    remedy = "Correct the named fields."

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            "\n".join(str(problem) for problem in problems),
            remedy=problems[0].remedy,
            details={"field": problems[0].field},
        )
        self.problems = tuple(problems)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and leaves dates as the text they are."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_manifests(text: str) -> list[AgentPool | AgentInstance]:
    """The resources in a YAML text of one or more documents, in their order; empty documents are skipped.

    Raises ManifestError with every problem of every document; nothing is returned then.
    """
    found: list[AgentPool | AgentInstance] = []
    problems: list[Problem] = []
    for number, document in enumerate(_documents(text), 1):
        if document is None:
            continue
        try:
            found.append(_resource(number, document))
        except ManifestError as exc:
            problems.extend(exc.problems)
    if not found and not problems:
        problems = [Problem("manifest", "", "found no resource", f"Write an AgentPool of {API_VERSION}.")]
    if problems:
        raise ManifestError(problems)
    return found


def _documents(text: str) -> list[Any]:
    if len(text) > MAX_CHARS:
        message = f"found {len(text)} characters, more than {MAX_CHARS}"
        raise ManifestError([Problem("manifest", "", message, "Split it into smaller files.")])
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "manifest"
        message = f"not valid YAML: {exc.problem or exc.context}"
        raise ManifestError([Problem(where, "", message, "Correct the YAML at this place.")]) from exc
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        message = f"not valid YAML: {type(exc).__name__}"
        raise ManifestError([Problem("manifest", "", message, "Correct the YAML.")]) from exc


def _resource(number: int, document: Any) -> AgentPool | AgentInstance:
    if not isinstance(document, dict):
        message = f"found {_kind_of(document)} instead of an object"
        remedy = f"Write an object with apiVersion: {API_VERSION} and kind: AgentPool."
        raise ManifestError([Problem(f"document {number}", "", message, remedy)])
    unfit = _not_json(document)
    if unfit is not None:
        raise ManifestError([Problem(f"document {number}", "", unfit, "Write plain values that JSON has.")])
    kind = document.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        message = "is missing" if kind is None else f"found {_short(kind)}"
        remedy = _nearest(kind, list(KINDS)) or f"Write one of {', '.join(KINDS)}."
        raise ManifestError([Problem(f"document {number}", "kind", message, remedy)])
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    where = f'document {number} ({kind} "{name}")' if isinstance(name, str) else f"document {number} ({kind})"
    try:
        return model.model_validate(document, by_name=False)
    except ValidationError as exc:
        raise ManifestError(list(_problems(where, model, exc))) from exc


def _not_json(document: Any) -> str | None:
    """Why a value cannot be sent as JSON, or None. An object that contains itself counts as too large."""
    waiting, seen = [document], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            return f"found more than {MAX_VALUES} values, or a value that contains itself"
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                return "found a key that is not text"
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            return f"found the number {value}"
        elif value is not None and not isinstance(value, str | int | float):
            return f"found a value of type {type(value).__name__}"
    return None


def _problems(where: str, model: type[BaseModel], exc: ValidationError) -> Iterator[Problem]:
    for error in exc.errors(include_url=False):
        path = error["loc"]
        cause = (error.get("ctx") or {}).get("error")
        kind = error["type"]
        if isinstance(cause, BadValue):
            yield Problem(where, _dotted((*path, *cause.path)), str(cause), cause.remedy)
        elif kind == "extra_forbidden":
            yield _unknown(where, model, path)
        elif kind == "missing":
            remedy = f"Add {path[-1]}{_about(model, path)}."
            yield Problem(where, _dotted(path), "is missing", remedy)
        elif kind == "enum":
            wanted = str((error.get("ctx") or {}).get("expected", "")).replace("'", "")
            choices = wanted.replace(" or ", ", ").split(", ")
            remedy = _nearest(error["input"], choices) or f"Write {wanted}."
            yield Problem(where, _dotted(path), f"found {_short(error['input'])}", remedy)
        else:
            remedy = _wanted(kind, error.get("ctx") or {})
            yield Problem(where, _dotted(path), f"found {_short(error['input'])}", remedy)


def _unknown(where: str, model: type[BaseModel], path: tuple[int | str, ...]) -> Problem:
    known = sorted(_fields(_model_at(model, path[:-1])))
    remedy = _nearest(path[-1], known) or f"Known here: {', '.join(known)}."
    return Problem(where, _dotted(path), "no such field", remedy)


def _nearest(found: object, known: Sequence[str]) -> str | None:
    """`Did you mean ...?` when one of `known` is near, in whatever case it was written."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(str(found).casefold(), by_folded, n=1, cutoff=0.7)
    return f"Did you mean {by_folded[near[0]]}?" if near else None


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_at(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    for step in path:
        # A number stands for an item of a list, whose type the type of the field names.
        if isinstance(step, str):
            model = next(_models_in(_fields(model)[step].annotation))
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _about(model: type[BaseModel], path: Sequence[int | str]) -> str:
    description = _fields(_model_at(model, path[:-1]))[str(path[-1])].description
    return f": {description.rstrip('.')}" if description else ""


_FORMS = {
    "int": "Write a whole number.",
    "float": "Write a number.",
    "bool": "Write true or false.",
    "string": "Write text; put it in quotes where YAML would read something else.",
    "tuple": "Write a list, for example [].",
    "model": "Write an object, for example {}.",
    "dict": "Write an object, for example {}.",
    "greater_than_equal": "Write {ge} or more.",
    "greater_than": "Write more than {gt}.",
    "less_than_equal": "Write {le} or less.",
    "too_long": "Write at most {max_length}.",
    "datetime": "Write a time, for example 2026-01-31T09:00:00Z.",
    "timezone": "Write a time with its zone, for example 2026-01-31T09:00:00Z.",
}


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    """What to write instead, from the kind of pydantic's error: `int_type`, `int_from_float`, ..."""
    form = _FORMS.get(kind) or _FORMS.get(kind.split("_")[0])
    if form is None:
        return "Write a value of the form that the reference of the resource gives."
    for name in ("ge", "gt", "le", "max_length"):
        form = form.replace(f"{{{name}}}", str(context.get(name)))
    return form


def _dotted(path: Sequence[int | str]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _kind_of(value: object) -> str:
    return "a list" if isinstance(value, list) else _short(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
