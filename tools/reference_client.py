# SPDX-License-Identifier: Apache-2.0
"""The page of docs/reference about the Python client, printed from its docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import agentpool_client
from agentpool_client import adapter, retrying

INTRO = """# Python client

`agentpool_client` is for asyncio; `agentpool_client.sync` has the same names without `async` and
`await`, for threads.
[How to call from Python](../howto/call-from-python.md) shows both.

"""
CLASSES = ("AgentPool", "Handle", "Instances", "RetryPolicy")
VALUES = ("Accepted", "Chunk", "Answer", "InstanceInfo", "Stats")
ERRORS = ("HandleReleased", "ClientNotOpen")
ADAPTER = ("SessionAdapter", "PoolManager")
_SECTION = re.compile(r"^(Args|Attributes):$")
_ENTRY = re.compile(r"^    (\w+): (.*)$")


def prose(doc: str | None) -> str:
    """A docstring as Markdown: paragraphs on one line each, arguments and attributes as a list."""
    lines: list[str] = []
    paragraph: list[str] = []
    listing = False
    for line in inspect.cleandoc(doc or "").splitlines():
        entry = _ENTRY.match(line) if listing else None
        if _SECTION.match(line):
            listing = True
        elif entry is not None:
            lines += _ended(paragraph)
            paragraph = [f"- `{entry[1]}`: {entry[2]}"]
        elif line.strip():
            if listing and not line.startswith(" "):
                lines += [*_ended(paragraph), ""]
                paragraph, listing = [], False
            paragraph.append(line.strip())
        else:
            lines += [*_ended(paragraph), ""]
            paragraph, listing = [], False
    return "\n".join([*lines, *_ended(paragraph)]).strip() + "\n\n"


def _ended(paragraph: list[str]) -> list[str]:
    return [" ".join(paragraph)] if paragraph else []


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    kept = [one for one in signature.parameters.values() if one.name != "self"]
    # Written as the reader of a page calls it: the types are in the editor.
    shown = [one.replace(annotation=inspect.Parameter.empty) for one in kept]
    text = str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    return name + text.replace(repr(retrying.DEFAULT_RETRIES), "RetryPolicy()")


def _members(kind: type) -> Iterator[tuple[str, str, str | None]]:
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield name, name, value.__doc__
        elif inspect.isasyncgenfunction(value):
            yield name, f"async for ... in {_signature(name, value)}", value.__doc__
        elif inspect.iscoroutinefunction(value):
            yield name, f"await {_signature(name, value)}", value.__doc__
        elif inspect.isfunction(value):
            yield name, _signature(name, value), value.__doc__


def _class(kind: type, *, members: bool) -> str:
    text = f"## {kind.__name__}\n\n"
    if members and kind.__name__ in ("AgentPool", "RetryPolicy"):
        text += f"`{_signature(kind.__name__, kind)}`\n\n"
    text += prose(kind.__doc__)
    if members:
        for _, shown, doc in _members(kind):
            text += f"### {shown}\n\n{prose(doc)}"
    return text


def client_page() -> str:
    """Everything public of the client."""
    text = INTRO
    for name in CLASSES:
        text += _class(getattr(agentpool_client, name), members=True)
    text += "## When a request is sent again\n\n" + prose_table(retrying.__doc__ or "")
    for name in (*VALUES, *ERRORS):
        text += _class(getattr(agentpool_client, name), members=False)
    text += "## Adapter for older programs\n\n"
    text += "In `agentpool_client.adapter`; `await get_global_adapter()` gives it.\n\n"
    text += prose_table(adapter.__doc__ or "")
    for name in ADAPTER:
        text += _class(getattr(adapter, name), members=True)
    return text.rstrip() + "\n"


def prose_table(doc: str) -> str:
    """The table in a module's docstring."""
    return "\n".join(line for line in doc.splitlines() if line.startswith("|")) + "\n\n"
