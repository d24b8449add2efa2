# SPDX-License-Identifier: Apache-2.0
"""The cluster after accidents: `up` brings it back with what was in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from support.devcluster import Checkout, eventually
from support.echo_pod import objects
from tools.devcluster import firewall, host, processes

IMAGE = "localhost/devcluster-tests/echo:1"


@pytest.fixture
def kept(cluster: Checkout, namespace: str) -> Iterator[str]:
    """The uid of a running pod that should outlive the accident."""
    cluster.apply(*objects(namespace, IMAGE))
    cluster.ready(namespace, "echo")
    get = ("-n", namespace, "get", "pod", "echo", "-o", "jsonpath={.metadata.uid}")
    uid = cluster.kubectl(*get)
    yield uid
    cluster.ready(namespace, "echo")
    assert cluster.kubectl(*get) == uid


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(["kubelet"], id="the kubelet was killed"),
        pytest.param(["kube-apiserver"], id="the API server was killed"),
        pytest.param(["etcd"], id="the database was killed"),
        pytest.param(
            ["containerd", "coredns", "kube-proxy"], id="the runtime, DNS and the proxy were killed"
        ),
    ],
)
@pytest.mark.usefixtures("kept")
def test_up_mends_what_was_killed(cluster: Checkout, killed: list[str]) -> None:
    untouched = cluster.pid("kube-scheduler")
    for daemon in killed:
        os.kill(cluster.pid(daemon), signal.SIGKILL)

    outcome = cluster.up()

    assert "mending" in outcome.output
    assert cluster.pid("kube-scheduler") == untouched
    assert cluster.devcluster("status").code == 0


@pytest.mark.usefixtures("kept")
def test_a_stale_pid_file_hurts_nobody(cluster: Checkout) -> None:
    os.kill(cluster.pid("kubelet"), signal.SIGKILL)
    with subprocess.Popen(["sleep", "300"]) as bystander:
        # Its number came again: only its start tells the bystander from the kubelet.
        identity = processes.identify(bystander.pid)
        assert identity is not None
        stale = replace(identity, started_ticks=identity.started_ticks - 1)
        (cluster.places.pids / "kubelet.json").write_text(json.dumps(asdict(stale)))

        cluster.up()

        assert bystander.poll() is None
        assert cluster.pid("kubelet") != bystander.pid
        bystander.terminate()


@pytest.mark.usefixtures("kept")
def test_daemons_whose_pid_files_are_lost_are_found_again(cluster: Checkout) -> None:
    before = cluster.pid("kube-apiserver")
    for record in cluster.places.pids.glob("*.json"):
        record.unlink()

    cluster.up()

    assert cluster.pid("kube-apiserver") == before


@pytest.mark.usefixtures("kept")
def test_a_restarted_machine_gets_its_cluster_back(cluster: Checkout) -> None:
    cluster.kubectl("create", "configmap", "from-before")
    _end_as_a_restart_does(cluster)

    outcome = cluster.up()

    assert "the machine was restarted" in outcome.output
    assert "from-before" in cluster.kubectl("get", "configmaps", "-o", "name")
    cluster.kubectl("delete", "configmap", "from-before")


def test_a_cluster_that_cannot_be_mended_starts_from_nothing(cluster: Checkout) -> None:
    os.kill(cluster.pid("etcd"), signal.SIGKILL)
    for log in (cluster.places.state / "etcd" / "member").rglob("*.wal"):
        log.write_bytes(b"not a log")

    outcome = cluster.up()

    assert "starting from nothing" in outcome.output
    assert cluster.devcluster("status").code == 0


def _end_as_a_restart_does(cluster: Checkout) -> None:
    """End every process at once and lose what a kernel forgets; the files stay as they were."""
    for pid in [*processes.marked(), *host.processes_in_cgroups()]:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not processes.marked() and not host.processes_in_cgroups())
    host.unmount_below(cluster.places.owned)
    host.remove_links()
    firewall.clear()
    host.remove_cgroups()
    record = cluster.places.state / "cluster.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "the boot before"}))
