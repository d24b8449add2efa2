# SPDX-License-Identifier: Apache-2.0
"""What the operator knows of hosts, over the real protocol."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentpool_core.cluster import (
    LABEL_INSTANCE,
    LABEL_POOL_UID,
    LABEL_ROLE,
    ROLE_GENERIC,
    ROLE_HOT,
    ROLE_WARM,
)
from agentpool_core.lifecycle import Tier
from agentpool_operator.hosts import Fleet
from agentpool_operator.hosts.link import HostLink
from agentpool_operator.kube.kinds import Object
from agentpool_operator.plan.views import pod_view
from agentpool_rpc.tokens import TokenSigner, TokenVerifier, generate_keypair
from support.builders import effective_pool
from support.fake_hosts import PodHost, running
from support.waiting import eventually

POOL = ("default", "support")


def pod(role: str = ROLE_WARM, **metadata: Any) -> Object:
    labels = {LABEL_ROLE: role, LABEL_POOL_UID: "pool-uid", **metadata.pop("labels", {})}
    named = {"name": "support-1", "namespace": "default", "uid": "uid-1", "resourceVersion": "1"}
    policy = "Always" if role == ROLE_WARM else "Never"
    return {
        "metadata": {**named, "labels": labels, **metadata},
        "spec": {"restartPolicy": policy},
        "status": running("image"),
    }


async def test_what_a_vanished_pod_held_is_looked_at_again() -> None:
    private, public = generate_keypair()
    body = pod()
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


@pytest.mark.parametrize(
    ("role", "labels", "tier"),
    [
        pytest.param(ROLE_WARM, {}, Tier.WARM, id="a shared pod"),
        pytest.param(ROLE_GENERIC, {}, Tier.COLD, id="a waiting pod"),
        pytest.param(ROLE_HOT, {LABEL_INSTANCE: "inst-1"}, Tier.HOT, id="the instance's own pod"),
    ],
)
async def test_a_pod_that_is_being_deleted_gets_nothing_new_though_its_host_is_ready(
    role: str, labels: dict[str, str], tier: Tier
) -> None:
    private, public = generate_keypair()
    body = pod(role, labels=labels)
    host = await PodHost(effective_pool(), TokenVerifier([public], time.time), body).start()
    signer = TokenSigner(private, "operator", time.time)
    fleet = Fleet(signer, lambda *_: None, address=lambda _: host.address)
    try:
        fleet.configure(POOL, effective_pool())
        fleet.pods_listed(POOL, [pod_view(body)])
        await eventually(lambda: fleet.host_for(POOL, "inst-1", tier) is not None)
        fleet.pod_seen(POOL, "uid-1", pod(role, labels=labels, deletionTimestamp="2026-11-21T12:00:09Z"))
        assert fleet.host_for(POOL, "inst-1", tier) is None
        # What the store knows it can still tell, and what it holds is still its own.
        told = fleet.any_host(POOL)
        assert told is not None and told.pod_uid == "uid-1"
        one = host.hold("acme", "alpha", tier)
        await eventually(lambda: fleet.holder(POOL, one.id) is not None)
    finally:
        await fleet.close()
        await host.stop()


async def test_all_hosts_are_heard_once_each_pod_that_may_hold_an_instance_is_connected() -> None:
    private, public = generate_keypair()
    body = pod()
    away = pod(name="support-2", uid="uid-2")
    host = await PodHost(effective_pool(), TokenVerifier([public], time.time), body).start()
    signer = TokenSigner(private, "operator", time.time)
    at = {"uid-1": host.address, "uid-2": "127.0.0.1:1"}
    fleet = Fleet(signer, lambda *_: None, address=lambda one: at[one.uid])
    try:
        fleet.configure(POOL, effective_pool())
        fleet.pods_listed(POOL, [pod_view(body), pod_view(away)])
        await eventually(lambda: bool(fleet.views(POOL)))
        assert not fleet.hears_all(POOL)
        fleet.pod_seen(POOL, "uid-2", {**away, "status": {"phase": "Failed"}})
        assert fleet.hears_all(POOL)
    finally:
        await fleet.close()
        await host.stop()
