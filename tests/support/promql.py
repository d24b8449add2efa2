# SPDX-License-Identifier: Apache-2.0
"""What a PromQL query asks for: metrics and labels. It reads our own queries, and is no parser of PromQL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
RANGE = re.compile(r"\[[^\]]*\]")
DURATION = re.compile(r"\boffset\s+\w+")
FUNCTION = re.compile(r"\b[a-z_]+\s*(?=\()")
NAME = re.compile(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*")
WORDS = frozenset({"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "inf", "nan"})


@dataclass(frozen=True)
class Query:
    """What is asked for.

    Attributes:
        labels: of selectors and of aggregations.
        equal: the values that a label must have, where they are spelt out.
    """

    metrics: set[str]
    labels: set[str]
    equal: dict[str, set[str]] = field(default_factory=dict)


def read(query: str) -> Query:
    """The metrics, labels and values in a query."""
    labels: set[str] = set()
    equal: dict[str, set[str]] = {}
    for inside in SELECTOR.findall(query):
        for label, how, value in MATCHER.findall(inside):
            labels.add(label)
            if how in ("=", "=~") and re.fullmatch(r"[\w|]*", value):
                equal.setdefault(label, set()).update(value.split("|"))
    rest = RANGE.sub("", SELECTOR.sub("", query))
    for inside in LISTS.findall(rest):
        labels |= {label.strip() for label in inside.split(",") if label.strip()}
    rest = FUNCTION.sub("", DURATION.sub("", LISTS.sub("", rest)))
    return Query(set(NAME.findall(rest)) - WORDS, labels, equal)
