# SPDX-License-Identifier: Apache-2.0
"""Commands of the documentation that speak to a cluster: what they name in the repository exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from support.repository import ROOT

CHART = "charts/agentpool"
PLUGIN = "agentpool"
KUBECTL = frozenset(
    {"annotate", "apply", "create", "delete", "describe", "drain", "events", "explain", "get", "label"}
    | {"logs", "port-forward", "rollout", "scale", "top", "wait", "auth", "kustomize", "patch", PLUGIN}
)
HELM = frozenset({"install", "upgrade", "uninstall", "test", "template", "show", "status"})


def check_kubectl(arguments: Sequence[str]) -> None:
    """Fails for a verb that this test does not know, and for a file that is not in the repository."""
    verbs = [word for word in arguments if word in KUBECTL]
    assert verbs, f"kubectl {' '.join(arguments)} has no verb that this test knows"
    _check_files(arguments)


def check_helm(arguments: Sequence[str]) -> None:
    """Fails for a command that helm has not, a file that is missing, and a value that the chart has not."""
    assert any(word in HELM for word in arguments), f"helm has no {arguments[0]}"
    _check_files(arguments)
    for flag, value in zip(arguments, arguments[1:], strict=False):
        if flag in ("--set", "--set-string", "--set-json"):
            known = values()
            key = value.partition("=")[0]
            assert key in known or key.rpartition(".")[0] in known, f"the chart has no value {key}"


def check_values(given: Mapping[str, Any]) -> None:
    """Fails for a value that the chart has not."""
    known = values()
    for path in _leaves(given, ""):
        steps = path.split(".")
        prefixes = {".".join(steps[:count]) for count in range(1, len(steps) + 1)}
        assert prefixes & known, f"the chart has no value {path}"


@cache
def values() -> frozenset[str]:
    """The dotted name of every value of the chart; of an empty map its own."""
    read = yaml.safe_load((ROOT / CHART / "values.yaml").read_text(encoding="utf-8"))
    return frozenset(_leaves(read, ""))


def _leaves(found: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in found.items():
        here = f"{path}.{name}".lstrip(".")
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here


def _check_files(arguments: Sequence[str]) -> None:
    for word in arguments:
        path = word.rpartition("=")[2]
        if "/" in path and (ROOT / path.partition("/")[0]).is_dir():
            assert (ROOT / path).exists(), f"{path} is not in the repository"
