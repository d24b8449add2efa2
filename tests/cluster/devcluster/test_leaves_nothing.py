# SPDX-License-Identifier: Apache-2.0
"""After `down` the machine is as it was, whatever state the cluster was in."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from support.devcluster import Checkout
from support.echo_pod import objects
from support.machine import snapshot

IMAGE = "localhost/devcluster-tests/echo:1"
# From the programs and images of the cache to a Ready node.
FROM_CACHE_SECONDS = 30


@pytest.fixture
def busy(cluster: Checkout, namespace: str) -> Checkout:
    """The cluster with a pod, a volume, a service and its rules."""
    cluster.apply(*objects(namespace, IMAGE))
    cluster.ready(namespace, "echo")
    return cluster


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param([], id="a cluster that works"),
        pytest.param(["containerd"], id="a cluster without its runtime"),
        pytest.param(
            ["etcd", "kube-apiserver", "kubelet", "kube-proxy"], id="a cluster without its control plane"
        ),
    ],
)
def test_down_leaves_nothing_behind(
    checkout: Checkout, killed: list[str], request: pytest.FixtureRequest
) -> None:
    assert checkout.devcluster("down").code == 0
    before = snapshot()
    busy: Checkout = request.getfixturevalue("busy")
    assert snapshot().left_since(before), "the comparison sees a running cluster"
    for daemon in killed:
        os.kill(busy.pid(daemon), signal.SIGKILL)

    outcome = busy.devcluster("down")

    assert outcome.code == 0, outcome.output
    assert snapshot().left_since(before) == {}


def test_down_ends_a_cluster_whose_state_was_deleted_by_hand(checkout: Checkout) -> None:
    assert checkout.devcluster("down").code == 0
    before = snapshot()
    checkout.up()
    shutil.rmtree(checkout.places.state, ignore_errors=True)

    outcome = checkout.devcluster("down")

    assert outcome.code == 0, outcome.output
    left = snapshot().left_since(before)
    # The values to restore were in the directory that is gone.
    assert left.keys() <= {"sysctls"}


def test_down_twice_is_as_good_as_once(checkout: Checkout) -> None:
    assert checkout.devcluster("down").code == 0
    assert checkout.devcluster("down").code == 0
    assert checkout.devcluster("status").code != 0


def test_up_from_the_cache_is_quick(checkout: Checkout) -> None:
    assert checkout.devcluster("down").code == 0
    assert checkout.up().seconds < FROM_CACHE_SECONDS
