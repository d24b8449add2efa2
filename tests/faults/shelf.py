# SPDX-License-Identifier: Apache-2.0
"""What simulated hosts keep of instances that nobody holds: in the lane's Redis, below their pool's prefix.

Whoever erases a pool's keys erases these with them, and without the pool's user nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from redis import Redis

from agentpool_core.names import StoreKeys
from agentpool_operator.store.access import PoolAccess
from agentpool_proto.v1 import types_pb2
from support.fake_host import Ownership

KEY = "shelf"


class Shelf(MutableMapping[str, types_pb2.Instance]):
    """Instances of one pool by id. What is read is a copy: a change counts once it is put back.

    Args:
        redis: with an administrator's rights. Calls are synchronous: the server is on this machine.
    """

    def __init__(self, redis: Redis, pool_uid: str) -> None:
        self._redis = redis
        self._key = StoreKeys(pool_uid).prefix + KEY
        self._user = PoolAccess(pool_uid, "").user

    def __getitem__(self, instance_id: str) -> types_pb2.Instance:
        kept: bytes | None = self._redis.execute_command("HGET", self._key, instance_id)
        if kept is None:
            raise KeyError(instance_id)
        return types_pb2.Instance.FromString(kept)

    def __setitem__(self, instance_id: str, one: types_pb2.Instance) -> None:
        # As for a real host: without the pool's user the store refuses, and what was not saved is lost.
        if self._redis.execute_command("ACL", "GETUSER", self._user) is not None:
            self._redis.hset(self._key, instance_id, one.SerializeToString())

    def __delitem__(self, instance_id: str) -> None:
        if not self._redis.hdel(self._key, instance_id):
            raise KeyError(instance_id)

    def __iter__(self) -> Iterator[str]:
        fields: list[bytes] = self._redis.execute_command("HKEYS", self._key)
        return iter([field.decode() for field in fields])

    def __len__(self) -> int:
        return int(self._redis.hlen(self._key))


class PoolStore(Ownership):
    """A pool's store as its hosts see it."""

    def __init__(self, redis: Redis, pool_uid: str) -> None:
        super().__init__()
        self.shelf = Shelf(redis, pool_uid)
