# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a manifest, one problem at a time: where, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass


class BadValue(ValueError):
    """A value that its field does not take.

    Attributes:
        remedy: one sentence that tells what to write instead.
        path: the field below the one that is validated, for rules over several fields; else empty.
    """

    def __init__(self, message: str, *, remedy: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.path = path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: the document, for example `document 2 (AgentPool "support")`.
        field: camelCase path, for example `spec.tiers.warm.quota.memory`; empty: the whole document.
        message: what was found and why it is refused, one clause.
        remedy: what to do, one sentence.
    """

    where: str
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.where}, {self.field}" if self.field else self.where
        return f"{place}: {self.message}. {self.remedy}"
