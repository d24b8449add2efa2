# SPDX-License-Identifier: Apache-2.0
"""Which cluster this machine gets: the user's, kind's, or its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tools.devcluster import preflight
from tools.devcluster.preflight import Lack
from tools.devcluster.problem import Exit, Problem
from tools.devcluster.shell import find, succeeds

CONTEXT_VARIABLE = "AGENTPOOL_CONTEXT"


class Kind(Enum):
    """The three kinds of cluster, in the order they are tried."""

    CONTEXT = "the cluster of AGENTPOOL_CONTEXT"
    KIND = "kind"
    OWN = "a one-node Kubernetes of this machine"


@dataclass(frozen=True)
class Facts:
    """What decides."""

    context: str
    docker_answers: bool
    kind_installed: bool
    lacks: Sequence[Lack]


def choose(facts: Facts) -> Kind:
    """Pure. Raises `Problem` with `NO_CLUSTER` and every reason when none of the three can be had."""
    if facts.context:
        return Kind.CONTEXT
    if facts.docker_answers and facts.kind_installed:
        return Kind.KIND
    if not facts.lacks:
        return Kind.OWN
    docker = "Docker answers, kind is not installed" if facts.docker_answers else "no Docker engine answers"
    reasons = "; ".join(lack.what for lack in facts.lacks)
    remedies = ["point AGENTPOOL_CONTEXT at a cluster", "install Docker and kind"]
    remedies += [lack.remedy for lack in facts.lacks]
    message = f"no cluster can be had here: AGENTPOOL_CONTEXT is not set; {docker}; {reasons}"
    raise Problem(message, "one of: " + "; ".join(dict.fromkeys(remedies)), Exit.NO_CLUSTER)


def observe(*, running: bool) -> Facts:
    """Look at the environment and this machine; asks Docker only when it could matter."""
    context = os.environ.get(CONTEXT_VARIABLE, "")
    docker = not context and find("docker") is not None
    return Facts(
        context=context,
        docker_answers=docker and succeeds(["docker", "info"], timeout_seconds=10),
        kind_installed=find("kind") is not None,
        lacks=preflight.lacks(preflight.observe(running=running)),
    )


def kind_runs() -> bool:
    """Whether kind could have a cluster here."""
    return find("kind") is not None and find("docker") is not None and succeeds(["docker", "info"])
