# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/reference that are printed from the code."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agentpool_core.api.v1alpha1 import (
    API_VERSION,
    AgentInstance,
    AgentInstanceSpec,
    AgentPool,
    AgentPoolSpec,
)
from agentpool_core.config import SETTINGS, VARIABLES
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import MOVES, OPERATIONS, State
from agentpool_core.recovery import (
    CALM_SECONDS,
    ESCALATED_SECONDS,
    LAST_WAIT_SECONDS,
    LASTING,
    PATTERNS,
    Cause,
    Strategy,
    wait_seconds,
)
from tools.reference_client import client_page


@dataclass(frozen=True, slots=True)
class Page:
    """One page: file name, the source that it is printed from, and the printer."""

    name: str
    source: str
    text: Callable[[], str]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [list(head), ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def first_line(doc: str | None) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join((doc or "").strip().split("\n\n")[0].split())


def _codes(root: type[AgentPoolError]) -> Iterator[type[AgentPoolError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("agentpool_core.errors"):
            yield from _codes(child)


def errors_page() -> str:
    """Every error: code, status, whether to send again, meaning and remedy."""
    rows = [
        [
            f"`{error.code}`",
            str(error.http_status),
            f"`{error.grpc_status}`",
            "yes" if error.retryable else "no",
            first_line(error.__doc__),
            error.remedy,
        ]
        for error in _codes(AgentPoolError)
    ]
    intro = (
        "# Errors\n\nREST answers errors as problem JSON (RFC 9457) with `code`; gRPC as a status with\n"
        "`google.rpc.ErrorInfo`, whose `reason` is the same code and whose domain is `agentpool.dev`.\n\n"
    )
    head = ("code", "HTTP", "gRPC", "same request may be sent again", "meaning", "remedy")
    return intro + table(head, rows)


def lifecycle_page() -> str:
    """The states and moves of an instance, as a table and as a diagram."""
    lines = [
        "# Lifecycle of an instance",
        "",
        "A move that is not listed is refused with `IllegalTransition`.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> CREATED",
        *(f"    {old} --> {new}: {name}" for (old, new), name in OPERATIONS.items()),
        "    TERMINATED --> [*]",
        "```",
        "",
    ]
    rows = [
        [f"`{state}`", ", ".join(f"`{after}`" for after in State if after in MOVES[state]) or "none: final"]
        for state in State
    ]
    return "\n".join(lines) + "\n" + table(("state", "may be followed by"), rows)


def member_docs(kind: type[StrEnum]) -> dict[str, str]:
    """What stands under each member of an enumeration."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = found.body if isinstance(found, ast.ClassDef) else []
    docs: dict[str, str] = {}
    for member, after in itertools.pairwise(body):
        match member, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str() as text)):
                docs[kind[name].value] = first_line(text)
    return docs


def recovery_page() -> str:
    """Causes, strategies and patterns of recovery."""
    lasting = ", ".join(f"`{cause}`" for cause in Cause if cause in LASTING)
    waits, starting = (
        ", ".join(f"{wait_seconds(n, starting=start):g}" for n in range(1, 6)) for start in (False, True)
    )
    rows = [
        [
            f"`{pattern.cause}`" + (" while starting" if pattern.starting else ""),
            str(pattern.times),
            f"`{pattern.strategy}`",
            pattern.why + (" (counted in its present tier)" if pattern.in_tier else ""),
        ]
        for pattern in PATTERNS
    ]
    return (
        "# Recovery of instances\n\nThe rules by which failed instances are started again; "
        "[the explanation](../explanation/recovery.md) says why they are so.\n\n## Causes\n\n"
        + table(("cause", "meaning"), ((f"`{name}`", doc) for name, doc in member_docs(Cause).items()))
        + "\n## Strategies\n\nIn the order of escalation.\n\n"
        + table(("strategy", "what is done"), ((f"`{n}`", doc) for n, doc in member_docs(Strategy).items()))
        + "\n## Patterns\n\nA failure that matches no pattern is answered by `RESTART`. Failures within "
        "`recovery.patternWindowMinutes`\ncount; the strongest pattern holds. With more than "
        "`recovery.maxFailuresPerHour` failures of any causes within an\nhour it is `ESCALATE`.\n\n"
        + table(("failures of this cause", "from", "strategy", "because"), rows)
        + f"\n## Waits\n\nBefore the next try, after the first, second .. failure within "
        f"{CALM_SECONDS / 60:g} minutes: {waits} .. {LAST_WAIT_SECONDS:g} seconds;\n"
        f"for an instance that did not even start {starting}. An escalated one is tried once in\n"
        f"{ESCALATED_SECONDS / 60:g} minutes; not so with {lasting}: it waits until it is resumed, "
        "or its agent\nchanges.\n"
    )


def shown(value: Any) -> str:
    """A default as it is written in YAML."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "[]" if value == () else str(value)


def environment_page() -> str:
    """The environment variables of a pool."""
    spec_of: dict[str, list[str]] = {}
    for setting in SETTINGS:
        if setting.variable and setting.spec:
            spec_of.setdefault(setting.variable, []).append(f"`spec.{setting.spec}`")
    rows = [
        [f"`{name}`", variable.form, f"`{variable.default}`", ", ".join(spec_of.get(name, ["none"]))]
        for name, variable in VARIABLES.items()
    ]
    intro = (
        "# Environment variables of a pool\n\nA field that is set in the `AgentPool` wins over the variable, "
        "the variable over the default.\nAn empty variable counts as unset; a bad value is refused.\n\n"
    )
    return intro + table(("variable", "value", "default", "stands in for"), rows)


def _type_of(field: FieldInfo) -> str:
    inner = [part for part in get_args(field.annotation) if part is not NoneType] or [field.annotation]
    kind = inner[0]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(kind)
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", dict: "object"}
    base = getattr(kind, "__origin__", kind)
    base = getattr(base, "__origin__", base)
    if base is tuple or str(field.annotation).startswith("tuple"):
        return "list of text"
    return names.get(base, "object") if isinstance(base, type) else "object"


def _default_of(path: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    for setting in SETTINGS:
        if setting.spec == path.removeprefix("spec."):
            cap = path.endswith(".maxInstances") and setting.default is None
            return "`limits.maxInstances`" if cap else f"`{_in_units(path, setting.default)}`"
    return "unset"


def _in_units(path: str, value: Any) -> str:
    if path.endswith(".memory"):
        return f"{value // 2**20}Mi"
    return f"{value}m" if path.endswith(".cpu") else shown(value)


def _rows(model: type[BaseModel], path: str) -> Iterator[list[str]]:
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}"
        parts = (field.annotation, *get_args(field.annotation))
        parts += tuple(inner for part in parts for inner in get_args(part))
        part = next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)
        if part is not None:
            yield from _rows(part, f"{here}[]" if "tuple[" in str(field.annotation) else here)
        else:
            yield [f"`{here}`", _type_of(field), _default_of(here, field), field.description or ""]


def resource_page(kind: str, about: str | None, spec: type[BaseModel]) -> str:
    """The fields of one kind."""
    intro = (
        f"# {kind}\n\n`apiVersion: {API_VERSION}`, `kind: {kind}`. {first_line(about)}\n"
        "An unknown field is an error.\n\n"
    )
    return intro + table(("field", "type", "default", "meaning"), _rows(spec, "spec"))


def agentpool_page() -> str:
    """The fields of an AgentPool."""
    return resource_page(AgentPool.KIND, AgentPool.__doc__, AgentPoolSpec)


def agentinstance_page() -> str:
    """The fields of an AgentInstance."""
    return resource_page(AgentInstance.KIND, AgentInstance.__doc__, AgentInstanceSpec)


PAGES = (
    Page("errors.md", "core/agentpool_core/errors", errors_page),
    Page("environment.md", "core/agentpool_core/config", environment_page),
    Page("lifecycle.md", "core/agentpool_core/lifecycle.py", lifecycle_page),
    Page("recovery.md", "core/agentpool_core/recovery.py", recovery_page),
    Page("agentpool.md", "core/agentpool_core/api", agentpool_page),
    Page("agentinstance.md", "core/agentpool_core/api", agentinstance_page),
    Page("python-client.md", "client/agentpool_client", client_page),
)
