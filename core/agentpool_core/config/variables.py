# SPDX-License-Identifier: Apache-2.0
"""The environment variables that stand in for unset fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agentpool_core.api.v1alpha1 import Storage
from agentpool_core.errors import InvalidRequest
from agentpool_core.lifecycle import Tier


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that stands in for an unset field.

    Attributes:
        name: name of the variable.
        form: what a value looks like, for people.
        default: the value that means the same as not setting it.
        read: the value of a text; raises ValueError.
    """

    name: str
    form: str
    default: str
    read: Callable[[str], Any]


def _switch(text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    return words[text.lower()] if text.lower() in words else _refuse()


def _refuse() -> Any:
    raise ValueError


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        return value if value >= least else _refuse()

    return read


def _share(text: str) -> float:
    value = float(text) if re.fullmatch(r"[01](\.[0-9]{1,6})?", text) else 0.0
    return value if 0 < value <= 1 else _refuse()


def _pause(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else _refuse()


def _seconds(text: str) -> float:
    value = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else 0.0
    return value if value > 0 else _refuse()


VARIABLES: Mapping[str, Variable] = MappingProxyType(
    {
        variable.name: variable
        for variable in (
            Variable("AGENT_POOL_ENABLED", "true or false", "true", _switch),
            Variable("AGENT_POOL_MAX_INSTANCES", "a whole number from 1 up", "100", _whole(1)),
            Variable("AGENT_POOL_DEFAULT_TIER", "HOT, WARM or COLD", "WARM", lambda text: Tier(text.upper())),
            Variable("AGENT_POOL_WARMUP_COUNT", "a whole number from 0 up", "5", _whole(0)),
            Variable("AGENT_POOL_MAX_IDLE_SECONDS", "whole seconds from 0 up", "300", _whole(0)),
            Variable("AGENT_POOL_CHECKPOINT_INTERVAL", "seconds above 0", "60", _seconds),
            Variable(
                "AGENT_POOL_CHECKPOINT_STORAGE",
                "redis or memory",
                "redis",
                lambda text: Storage(text.capitalize()),
            ),
            Variable("AGENT_POOL_HEALTH_CHECK_INTERVAL", "seconds above 0", "30", _seconds),
            Variable("AGENT_POOL_HEALTH_CHECK_TIMEOUT", "seconds above 0", "10", _seconds),
            Variable("AGENT_POOL_ENABLE_HA", "true or false", "true", _switch),
            Variable("AGENT_POOL_MAX_FAILURES_PER_HOUR", "a whole number from 1 up", "5", _whole(1)),
            Variable("AGENT_POOL_CIRCUIT_FAILURE_THRESHOLD", "a whole number from 1 up", "5", _whole(1)),
            Variable("AGENT_POOL_CIRCUIT_RESET_TIMEOUT", "seconds above 0", "30", _seconds),
            Variable(
                "AGENT_POOL_PATTERN_DETECTION_WINDOW", "minutes, a whole number from 1 up", "60", _whole(1)
            ),
            Variable("AGENT_POOL_ENABLE_AUTO_SCALING", "true or false", "false", _switch),
            Variable("AGENT_POOL_SCALE_UP_THRESHOLD", "a share above 0, at most 1", "0.8", _share),
            Variable("AGENT_POOL_SCALE_DOWN_THRESHOLD", "a share above 0, at most 1", "0.3", _share),
            Variable("AGENT_POOL_SCALING_COOLDOWN", "seconds from 0 up", "300", _pause),
        )
    }
)
"""The environment variables of a pool (A74-A78)."""


def read_variable(variable: Variable, text: str) -> Any:
    try:
        return variable.read(text.strip())
    except ValueError as exc:
        raise InvalidRequest(
            f"{variable.name} is {text[:80]!r}, which is not {variable.form}.",
            remedy=f"Set {variable.name} to {variable.form}, or unset it to use {variable.default}.",
            details={"variable": variable.name},
        ) from exc
