# SPDX-License-Identifier: Apache-2.0
"""Public names of a package whose modules are loaded when somebody asks for one of them.

A host works with little of what the resources and their configuration consist of; its start does not pay for
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def later(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` (PEP 562) of a package. `modules`: name to the module of the package that has it."""

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return attribute
