# SPDX-License-Identifier: Apache-2.0
"""What the operator knows of hosts, over the real protocol."""

from __future__ import annotations

import time

from agentpool_core.cluster import LABEL_POOL_UID, LABEL_ROLE, ROLE_WARM
from agentpool_operator.hosts import Fleet
from agentpool_operator.hosts.link import HostLink
from agentpool_operator.plan.views import pod_view
from agentpool_rpc.tokens import TokenSigner, TokenVerifier, generate_keypair
from support.builders import effective_pool
from support.fake_hosts import PodHost, running
from support.waiting import eventually

POOL = ("default", "support")


async def test_what_a_vanished_pod_held_is_looked_at_again() -> None:
    private, public = generate_keypair()
    labels = {LABEL_ROLE: ROLE_WARM, LABEL_POOL_UID: "pool-uid"}
    metadata = {"name": "support-warm-1", "namespace": "default", "uid": "uid-1", "labels": labels}
    body = {
        "metadata": metadata | {"resourceVersion": "1"},
        "spec": {"restartPolicy": "Always"},
        "status": running("image"),
    }
    host = await PodHost(effective_pool(), TokenVerifier([public], time.time), body).start()
    changes: list[frozenset[str]] = []

    def changed(_: HostLink, ids: frozenset[str], __: bool) -> None:
        changes.append(ids)

    fleet = Fleet(TokenSigner(private, "operator", time.time), changed, address=lambda _: host.address)
    try:
        fleet.configure(POOL, effective_pool())
        fleet.pods_listed(POOL, [pod_view(body)])
        one = host.hold("acme", "alpha")
        await eventually(lambda: fleet.holder(POOL, one.id) is not None)
        changes.clear()
        fleet.pod_seen(POOL, "uid-1", None)
        assert changes == [frozenset({one.id})]
        assert fleet.holder(POOL, one.id) is None
    finally:
        await fleet.close()
        await host.stop()
