# SPDX-License-Identifier: Apache-2.0
"""Events become keys; what nobody acts on becomes none."""

from __future__ import annotations

import asyncio
from typing import Any

from agentpool_core.cluster import LABEL_ORIGIN, LABEL_POOL_UID
from agentpool_core.names import InstanceKey
from agentpool_operator.cache import Cache
from agentpool_operator.handlers import Doors
from agentpool_operator.queue import Key, Subject, WorkQueue
from support.kube_objects import pod_body

POOL = Key(Subject.POOL, "default", "support")
ID = InstanceKey("default", "support", "acme", "one").instance_id


def pool(generation: int = 1, **metadata: Any) -> dict[str, Any]:
    facts = {"namespace": "default", "name": "support", "uid": "pool-uid", "generation": generation}
    return {"metadata": facts | metadata}


def instance(name: str = "vip", **changes: Any) -> dict[str, Any]:
    spec = {"pool": "support", "tenant": "acme", "project": "one"}
    metadata = {"namespace": "default", "name": name, "uid": f"uid-{name}", "generation": 1}
    return {
        "metadata": metadata | changes.pop("metadata", {}),
        "spec": spec | changes.pop("spec", {}),
        **changes,
    }


class Scene:
    def __init__(self) -> None:
        self.cache = Cache()
        self.queue = WorkQueue()
        self.pods: list[tuple[Any, ...]] = []
        self.doors = Doors(self.cache, self.queue, lambda *facts: self.pods.append(facts))

    async def keys(self) -> list[Key]:
        found = []
        while len(self.queue):
            key = await asyncio.wait_for(self.queue.take(), 1)
            self.queue.done(key)
            found.append(key)
        return sorted(found)


async def test_a_pool_is_looked_at_when_its_spec_changes_not_when_its_status_does() -> None:
    scene = Scene()
    scene.doors.pool("ADDED", pool())
    assert await scene.keys() == [POOL]
    scene.doors.pool("MODIFIED", pool() | {"status": {"resident": 1}})
    assert await scene.keys() == []
    scene.doors.pool("MODIFIED", pool(2))
    assert await scene.keys() == [POOL]
    scene.doors.pool("MODIFIED", pool(2, deletionTimestamp="now"))
    assert await scene.keys() == [POOL]


async def test_a_pool_that_changes_has_its_instances_looked_at() -> None:
    scene = Scene()
    scene.doors.instance(None, instance())
    await scene.keys()
    scene.doors.pool("ADDED", pool())
    assert await scene.keys() == [Key(Subject.INSTANCE, "default", "vip"), POOL]


async def test_an_instance_has_itself_and_its_pool_looked_at_once_per_change() -> None:
    scene = Scene()
    both = [Key(Subject.INSTANCE, "default", "vip"), POOL]
    scene.doors.instance("ADDED", instance())
    assert await scene.keys() == both
    scene.doors.instance("MODIFIED", instance())
    assert await scene.keys() == []
    scene.doors.instance("DELETED", instance())
    assert await scene.keys() == both


async def test_pods_and_deployments_find_their_pool_by_its_uid() -> None:
    scene = Scene()
    scene.doors.pod("ADDED", pod_body())
    assert (await scene.keys(), scene.pods) == ([], [])
    scene.doors.pool("ADDED", pool())
    await scene.keys()
    scene.doors.pod("ADDED", pod_body())
    assert scene.pods[-1][:2] == (("default", "support"), "uid-pod-1")
    assert await scene.keys() == [POOL]
    scene.doors.pod("DELETED", pod_body())
    assert scene.pods[-1][2] is None
    scene.doors.child("MODIFIED", {"metadata": {"labels": {LABEL_POOL_UID: "pool-uid"}}})
    assert await scene.keys() == [POOL]


def test_a_declared_instance_stands_before_a_record_and_the_older_before_the_younger() -> None:
    cache = Cache()
    cache.instance_put(
        instance(ID, metadata={"labels": {LABEL_ORIGIN: "observed"}, "creationTimestamp": "1"})
    )
    assert getattr(cache.standing_for(ID), "name", None) == ID
    cache.instance_put(instance("young", metadata={"creationTimestamp": "3"}))
    cache.instance_put(instance("old", metadata={"creationTimestamp": "2"}))
    assert getattr(cache.standing_for(ID), "name", None) == "old"
    cache.instance_drop("default", "old")
    assert getattr(cache.standing_for(ID), "name", None) == "young"
    assert [ref.name for ref in cache.of_pool("default", "support")] == ["young"]


def test_a_deleted_declaration_is_remembered_until_it_is_settled() -> None:
    cache = Cache()
    cache.instance_put(instance())
    cache.instance_drop("default", "vip")
    assert cache.departed("default", "vip") is not None
    cache.settle("default", "vip")
    assert cache.departed("default", "vip") is None


def test_a_deleted_record_is_not() -> None:
    cache = Cache()
    cache.instance_put(instance(metadata={"labels": {LABEL_ORIGIN: "observed"}}))
    cache.instance_drop("default", "vip")
    assert cache.departed("default", "vip") is None


def test_a_full_list_finds_the_deletions_that_no_watch_told() -> None:
    cache = Cache()
    cache.instance_put(instance("kept"))
    cache.instance_put(instance("lost", spec={"project": "two"}))
    missed = cache.replace([pool()], [instance("kept")])
    assert [ref.name for ref in missed] == ["lost"]
    assert cache.departed("default", "lost") is not None
    assert cache.synced
    assert cache.pools == (("default", "support"),)


def test_an_instance_made_anew_under_its_name_ends_the_one_before() -> None:
    cache = Cache()
    cache.instance_put(instance())
    cache.instance_put(instance(metadata={"uid": "another"}))
    assert getattr(cache.departed("default", "vip"), "uid", None) == "uid-vip"


async def test_a_double_has_the_other_looked_at_too() -> None:
    scene = Scene()
    scene.doors.instance("ADDED", instance("first"))
    await scene.keys()
    scene.doors.instance("ADDED", instance("second"))
    both = [Key(Subject.INSTANCE, "default", name) for name in ("first", "second")]
    assert await scene.keys() == [*both, POOL]
