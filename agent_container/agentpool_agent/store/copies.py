# SPDX-License-Identifier: Apache-2.0
"""What a holder's copy of an instance's state rests on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Copy:
    """The number of the last write that the holder knows of, whether its copy is the previous state instead
    of the present one, and the name of the write that is not answered yet."""

    epoch: int
    version: int
    previous: bool = False
    unheard: str = ""
