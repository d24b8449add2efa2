# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities: `512Mi`, `500m`, `2e3`, as numbers with plain units."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from agentpool_core.api.problems import BadValue

_SUFFIXES = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
}
_FORM = re.compile(
    r"\+?(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:(?P<suffix>[mkMGTP]|[KMGTP]i)|[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)
_LARGEST = Decimal(2**63 - 1)


def _parse(text: str, remedy: str) -> Decimal:
    # Kubernetes' own bound: a longer text cannot be a useful number, only slow to compute.
    match = _FORM.fullmatch(text) if len(text) <= 64 and text.isascii() else None
    if match is None:
        raise BadValue(f"found {text[:64]!r}, which is not a quantity", remedy=remedy)
    value = Decimal(match["number"]) * _SUFFIXES[match["suffix"] or ""]
    value *= Decimal(10) ** int(match["exponent"] or 0)
    if not 0 < value <= _LARGEST:
        raise BadValue(f"found {text!r}, which is not between zero and 2^63", remedy=remedy)
    return value


def memory_bytes(text: str) -> int:
    """Bytes of a memory quantity, rounded up; raises BadValue. `512Mi` is 536870912."""
    value = _parse(text, "Write memory as a number with a unit, for example 512Mi or 2Gi.")
    return int(value.to_integral_value(ROUND_CEILING))


def cpu_millis(text: str) -> int:
    """Thousandths of a core of a CPU quantity, rounded up; raises BadValue. `0.5` and `500m` are 500."""
    value = _parse(text, 'Write CPU in cores or thousandths of one, for example "1" or 500m.')
    return int((value * 1000).to_integral_value(ROUND_CEILING))


def _as_text(value: object) -> object:
    # YAML reads `cpu: 1` as a number, and Kubernetes takes it.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _memory(text: str) -> str:
    memory_bytes(text)
    return text


def _cpu(text: str) -> str:
    cpu_millis(text)
    return text


Memory = Annotated[str, BeforeValidator(_as_text), AfterValidator(_memory)]
"""A memory quantity as it was written."""

Cpu = Annotated[str, BeforeValidator(_as_text), AfterValidator(_cpu)]
"""A CPU quantity as it was written."""
