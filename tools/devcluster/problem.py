# SPDX-License-Identifier: Apache-2.0
"""The errors of this tool: what is wrong, what to do about it, and the exit code that says so to a script."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. `NO_CLUSTER` is the one a caller may fall back on: nothing was started, nothing can be."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_CLUSTER = 3
    NOT_RUNNING = 4


class Problem(Exception):
    """Something that stops the command. `remedy` tells the user what to do, in one sentence."""

    def __init__(self, message: str, remedy: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code
