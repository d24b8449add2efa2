# SPDX-License-Identifier: Apache-2.0
"""What an event of each kind that is watched means: which keys to look at."""

from __future__ import annotations

from collections.abc import Callable

from agentpool_operator.cache import Cache, InstanceRef
from agentpool_operator.kube.kinds import Object
from agentpool_operator.queue import Key, Subject, WorkQueue

DELETED = "DELETED"


class Doors:
    """Turns events into keys.

    Args:
        pod_seen: told of each agent pod, with its pool; None instead of the object when it is gone.
    """

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        pod_seen: Callable[[tuple[str, str], str, Object | None], None],
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._pod_seen = pod_seen

    def pool(self, kind: str | None, body: Object) -> None:
        """An AgentPool."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if kind == DELETED:
            self._cache.pool_drop(namespace, name)
        elif not self._cache.pool_put(body):
            # Its status alone changed, and that is the operator's own word.
            return
        self._queue.add(Key(Subject.POOL, namespace, name))
        for ref in list(self._cache.of_pool(namespace, name)):
            self._instance(ref)

    def instance(self, kind: str | None, body: Object) -> None:
        """An AgentInstance."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if kind == DELETED:
            ref = self._cache.instance_drop(namespace, name)
        else:
            ref = self._cache.instance_put(body)
        if ref is not None:
            # Which of several stands for the instance may be another one now.
            for one in (ref, *self._cache.doubles(ref)):
                self._instance(one)
            self._queue.add(Key(Subject.POOL, ref.namespace, ref.pool))

    def child(self, _kind: str | None, body: Object) -> None:
        """A Deployment of ours."""
        pool = self._cache.pool_of(body)
        if pool is not None:
            self._queue.add(Key(Subject.POOL, *pool))

    def pod(self, kind: str | None, body: Object) -> None:
        """An agent pod."""
        pool = self._cache.pool_of(body)
        if pool is not None:
            self._pod_seen(pool, body["metadata"]["uid"], None if kind == DELETED else body)
            self._queue.add(Key(Subject.POOL, *pool))

    def _instance(self, ref: InstanceRef) -> None:
        self._queue.add(Key(Subject.INSTANCE, ref.namespace, ref.name))
