# SPDX-License-Identifier: Apache-2.0
"""A rule in CEL that the API server checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        path: field whose value is `self`, dotted from the object, `[]` for each item of a list; empty: the
            object.
        cel: the expression that holds for a good value.
        message: what is wrong and what to do.
        field: field that the message is about, below `path`; empty: `path` itself.
    """

    path: str
    cel: str
    message: str
    field: str = ""
