# SPDX-License-Identifier: Apache-2.0
"""The garbage collector's work: what belongs to nothing that is there goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from agentpool_operator.kube.client import KubeClient
from agentpool_operator.kube.kinds import (
    BUDGETS,
    DEPLOYMENTS,
    INSTANCES,
    PODS,
    POOLS,
    SECRETS,
    SERVICES,
    Kind,
    KubeError,
    Object,
)
from faults.mirror import Mirror

OWNED = (DEPLOYMENTS, SERVICES, BUDGETS, SECRETS, PODS, INSTANCES)
KINDS = (POOLS, *OWNED)
LOOK_SECONDS = 0.5
LOOKS = 4
"""It comes late, as a real one does: what the operator deletes itself is gone by then."""


def orphans(found: Mapping[str, Sequence[Object]]) -> list[tuple[Kind, Object]]:
    """What belongs to nothing that is there, given everything by kind. Pods of a Deployment have no owner
    here, but its name."""
    living = {one["metadata"]["uid"] for bodies in found.values() for one in bodies}
    deployments = {one["metadata"]["name"] for one in found[DEPLOYMENTS.kind]}
    orphaned = []
    for kind in OWNED:
        for body in found[kind.kind]:
            owners = body["metadata"].get("ownerReferences") or ()
            alone = bool(owners) and all(one["uid"] not in living for one in owners)
            replica = kind is PODS and not owners and body["metadata"]["name"][:-7] not in deployments
            if alone or replica:
                orphaned.append((kind, body))
    return orphaned


async def collect(mirror: Mirror, client: KubeClient) -> None:
    """Look and delete, for ever."""
    seen: Counter[str] = Counter()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        found = {kind.kind: mirror.objects.list(kind) for kind in KINDS}
        uids = {body["metadata"]["uid"] for _, body in orphans(found)}
        seen = Counter({uid: seen[uid] + 1 for uid in uids})
        late = {uid for uid, looks in seen.items() if looks >= LOOKS}
        if late:
            with contextlib.suppress(KubeError):
                await _delete(mirror, client, late)


async def _delete(mirror: Mirror, client: KubeClient, uids: Collection[str]) -> None:
    # Watches of two kinds may differ by a moment; a look at what is owned before what owns may not: an owner
    # that is missing then was there, and is gone.
    kinds = (PODS, SECRETS, SERVICES, BUDGETS, DEPLOYMENTS, INSTANCES, POOLS)
    found = {kind.kind: await client.list(kind, mirror.namespace) for kind in kinds}
    for kind, body in orphans(found):
        if body["metadata"]["uid"] in uids:
            await mirror.delete(kind, mirror.namespace, body["metadata"]["name"], body["metadata"]["uid"])
