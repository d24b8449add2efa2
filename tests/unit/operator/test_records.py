# SPDX-License-Identifier: Apache-2.0
"""The operator looks at what it recorded, whether an event tells of it or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from agentpool_core.names import InstanceKey
from agentpool_operator.cache import Cache
from agentpool_operator.desired.naming import Owner
from agentpool_operator.kube.kinds import Kind, Object
from agentpool_operator.plan.views import AwaitedView
from agentpool_operator.queue import Key, Subject, WorkQueue
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pods import Effects, Pods

ID = InstanceKey("default", "support", "acme", "one").instance_id


class Server:
    """Makes what it is asked to make."""

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        metadata = {**body["metadata"], "namespace": namespace, "uid": "uid-record"}
        return {**body, "metadata": metadata}


async def test_a_record_is_looked_at_though_no_event_tells_of_it() -> None:
    nothing = cast(Any, None)
    queue, cache = WorkQueue(), Cache()
    parts = Parts(cast(Any, Server()), cache, queue, nothing, nothing, nothing, nothing)
    owner = Owner("default", "support", "pool-uid")
    effects = Effects()
    await Pods(parts).record_awaited(owner, [AwaitedView(ID, "acme", "one", 1.0)], effects)
    assert (cache.instances[0].name, effects.problems) == (ID, [])
    assert await asyncio.wait_for(queue.take(), 1) == Key(Subject.INSTANCE, "default", ID)
