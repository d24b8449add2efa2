# SPDX-License-Identifier: Apache-2.0
"""Making many pods: what refuses the first is not asked for each of the others."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, cast

import pytest

from agentpool_core.cluster import ROLE_GENERIC
from agentpool_operator.desired.naming import Owner
from agentpool_operator.desired.pod import PodDefaults, template
from agentpool_operator.kube.kinds import KubeError, Refused, Retry
from agentpool_operator.plan.expected import Expected
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pods import Effects, Pods
from support.builders import agent_pool, effective_pool

OWNER = Owner("default", "support", "pool-uid")
QUOTA = Refused(403, "Forbidden", "exceeded quota: pods")
ENDING = Refused(403, "Forbidden", "unable to create new content in namespace default")
SLOW = Retry(500, "InternalError", "try again")


class CreatingCluster:
    """Takes pods until an error is due."""

    def __init__(self, error: KubeError | None, after: int) -> None:
        self._error, self._after = error, after
        self.asked = 0

    async def create(self, _kind: object, _namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self._error is not None and self.asked > self._after:
            raise self._error
        return body


def pods_on(cluster: CreatingCluster) -> Pods:
    numbers = count()
    suffix: Callable[[], str] = lambda: f"{next(numbers):06d}"  # noqa: E731  # one line is what it is
    unused = cast(Any, None)
    parts = Parts(cast(Any, cluster), *(unused,) * 6, clock=lambda: 0.0, suffix=suffix)
    return Pods(parts)


@pytest.mark.parametrize(
    ("error", "after", "asked", "expected"),
    [
        pytest.param(None, 0, 25, 25, id="nothing refuses: all are made"),
        pytest.param(QUOTA, 0, 1, 0, id="a quota that is used up is asked once"),
        pytest.param(ENDING, 0, 1, 0, id="a namespace that ends is asked once"),
        pytest.param(QUOTA, 2, 3, 2, id="a quota with room for two: the batch that it ends in is the last"),
        pytest.param(SLOW, 3, 7, 7, id="without an answer a pod may be there, and stays expected"),
    ],
)
async def test_a_refusal_ends_the_batches(
    error: KubeError | None, after: int, asked: int, expected: int
) -> None:
    cluster, effects, made = CreatingCluster(error, after), Effects(), Expected()
    base = PodDefaults("registry.test/agent:1", "IfNotPresent", "key")
    waiting = template(ROLE_GENERIC, OWNER, agent_pool(), effective_pool(), base)
    await pods_on(cluster).create_waiting(OWNER, waiting, 25, made, effects)
    assert cluster.asked == asked
    assert made.waiting(ROLE_GENERIC) == expected
    assert bool(effects.problems) == isinstance(error, Refused)
