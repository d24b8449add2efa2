# SPDX-License-Identifier: Apache-2.0
"""Rights by asking the cluster: RBAC decides, its answers are kept for a while.

An allow holds 30 s and is asked for again in the background before that, so a caller who keeps calling
never waits. While the cluster cannot be asked, an earlier allow holds on, 15 minutes at most; that the
token's end comes first is seen to where the token is checked. A refusal is never held on to.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import structlog

from agentpool_core.errors import PermissionDenied, PoolNotFound, Unavailable
from agentpool_gateway.admission.identity import Identity
from agentpool_gateway.admission.rights import Scope
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.settings import PoolVerb

log = structlog.get_logger(__name__)

ALLOWED_SECONDS = 30.0
REFRESH_SECONDS = 20.0
"""An allow older than this is asked for again while it still holds."""
DENIED_SECONDS = 5.0
HELD_SECONDS = 900.0
RETRY_SECONDS = 2.0
"""While the cluster cannot be asked, an allow that is held is asked for again after this time."""
TROUBLE_SECONDS = 30.0
"""How long after a failed review the next one is still expected to fail: a caller with a held allow does
not wait for it."""
WAIT_SECONDS = 6.0
"""A review ends before this by itself."""
REMEMBERED = 10_000
"""Answers kept; one takes about 300 bytes."""


@dataclass(frozen=True, slots=True)
class Question:
    """May this user do this with the pool, or the subresource of it?"""

    user: str
    groups: tuple[str, ...]
    verb: str
    namespace: str
    name: str
    """Empty: all."""
    subresource: str = ""

    @property
    def digest(self) -> bytes:
        """Stands for the question in the cache, whatever its length."""
        parts = (self.user, *self.groups, self.verb, self.namespace, self.name, self.subresource)
        return sha256("".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "replace")).digest()


class ReviewFailed(Exception):
    """The cluster did not tell."""


class Reviewer(Protocol):
    """Asks the cluster."""

    def watches(self, namespace: str) -> bool:
        """Whether pools of this namespace are served."""

    async def review(self, question: Question) -> bool:
        """Whether it is allowed; ReviewFailed. Bounded in time."""


@dataclass(slots=True)
class _Answer:
    allowed: bool
    at: float


class AccessReviews:
    """The Authorizer of a cluster.

    Args:
        bind_tenants: also require `invoke` on `agentpools/tenants` of the tenant that a caller names.
        clock: seconds, monotonic.
    """

    def __init__(self, reviewer: Reviewer, bind_tenants: bool, clock: Callable[[], float]) -> None:
        self._reviewer = reviewer
        self._scope = Scope(reviewed=bind_tenants)
        self._clock = clock
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._failed_at = float("-inf")

    async def authorize(self, identity: Identity, verb: PoolVerb, pool: PoolName) -> Scope:
        """See Authorizer; PoolNotFound for a namespace not served here, Unavailable when nobody can tell."""
        if not self._reviewer.watches(pool.namespace):
            raise PoolNotFound(f"Pools of namespace {pool.namespace} are not served here.")
        question = Question(identity.user, identity.groups, verb, pool.namespace, pool.name)
        if not await self._allowed(question):
            raise PermissionDenied(
                f"The caller {identity.user} may not {verb} on pool {pool}.",
                remedy=f"Ask the pool's administrator for a Role with the verb {verb} on agentpools named "
                f"{pool.name}.",
            )
        return self._scope

    async def authorize_tenant(self, identity: Identity, pool: PoolName, tenant_id: str) -> None:
        """See Authorizer."""
        name = f"{pool.name}:{tenant_id}" if tenant_id else ""
        question = Question(
            identity.user, identity.groups, PoolVerb.INVOKE, pool.namespace, name, subresource="tenants"
        )
        if not await self._allowed(question):
            raise PermissionDenied(
                "The caller has no right for this tenant."
                if tenant_id
                else "The caller has no right for all tenants.",
                remedy=f"Ask the pool's administrator for a Role with the verb invoke on agentpools/tenants "
                f"named {pool.name}:TENANT{'' if tenant_id else ', or name one tenant'}.",
            )

    async def _allowed(self, question: Question) -> bool:
        key = question.digest
        answer, now = self._answers.get(key), self._clock()
        if answer is not None:
            age = now - answer.at
            if not answer.allowed and age < DENIED_SECONDS:
                return False
            if answer.allowed:
                self._answers.move_to_end(key)
                if age < REFRESH_SECONDS:
                    return True
                trouble = now - self._failed_at
                if age < (HELD_SECONDS if trouble < TROUBLE_SECONDS else ALLOWED_SECONDS):
                    if trouble >= RETRY_SECONDS:
                        self._ask(key, question)
                    return True
        try:
            # The review goes on for others who wait for it when this caller leaves.
            return await asyncio.shield(self._ask(key, question))
        except ReviewFailed as exc:
            if answer is not None and answer.allowed and self._clock() - answer.at < HELD_SECONDS:
                return True
            raise Unavailable("The cluster does not tell who may call.", retry_after_seconds=1.0) from exc

    def _ask(self, key: bytes, question: Question) -> asyncio.Task[bool]:
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._review(key, question), name="access review")
            task.add_done_callback(lambda done: self._over(key, done))
        return task

    def _over(self, key: bytes, done: asyncio.Task[bool]) -> None:
        del self._running[key]
        if not done.cancelled():
            # A refresh that failed has no reader; the failure is logged already.
            done.exception()

    async def _review(self, key: bytes, question: Question) -> bool:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                allowed = await self._reviewer.review(question)
        except (ReviewFailed, TimeoutError) as exc:
            self._failed_at = self._clock()
            log.warning("access_review_failed", reason=str(exc) or "no answer in time")
            raise ReviewFailed(str(exc)) from exc
        self._failed_at = float("-inf")
        self._answers[key] = _Answer(allowed, self._clock())
        self._answers.move_to_end(key)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return allowed
