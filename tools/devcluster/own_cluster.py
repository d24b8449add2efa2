# SPDX-License-Identifier: Apache-2.0
"""The real one-node Kubernetes: brought up, mended, looked at and taken down without a trace."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.devcluster import (
    addons,
    archive,
    build,
    configuration,
    daemons,
    firewall,
    host,
    packages,
    pki,
    processes,
)
from tools.devcluster import topology as t
from tools.devcluster.api import Api, node_is_ready
from tools.devcluster.capabilities import CAP_SYS_RESOURCE, holds
from tools.devcluster.console import say, step
from tools.devcluster.places import CHECKOUT, Places
from tools.devcluster.problem import Problem
from tools.devcluster.processes import Daemon, PidFiles
from tools.devcluster.shell import run, succeeds

POLL_SECONDS = 0.1
# Two cores that others use, too: an API server took 30 s there in the worst of our runs.
START_SECONDS = 120
# Long enough for a container that ends in order, short enough for `make cluster-down`.
POD_GRACE_SECONDS = 2


@dataclass(frozen=True)
class Record:
    """What the last `up` wrote down: which configuration runs, since which boot, from which checkout."""

    fingerprint: str
    boot: str
    checkout: str


class OwnCluster:
    """The machine's one-node cluster. Whoever changes it holds the machine's lock; looking takes none."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._pids = PidFiles(places.pids, places.logs)
        self._record = places.state / "cluster.json"
        self._sysctls = places.state / "sysctls.json"
        # Daemons this command started or found running: none of them may end while it waits for another.
        self._counted_on: list[str] = []

    def up(self, *, reset: bool) -> Path:
        """Bring the cluster up, or mend it, or find that it runs. Returns the directory of its programs.

        A cluster of other sources, or whose certificates end soon, starts from nothing; so does one that
        cannot be mended.
        """
        packages.install(packages.missing_for_cluster())
        programs = build.programs(self.places)
        files = configuration.files(self.places, self._machine(programs))
        wanted = self._fingerprint(files, programs)
        found = self.read_record()
        kept = found is not None and found.fingerprint == wanted and pki.usable(self.places.pki) and not reset
        if kept and found is not None and self._adopt(found, programs):
            return programs
        if not kept:
            self.down()
        try:
            self._start(files, programs, wanted)
        except Problem as problem:
            if not kept:
                raise
            say(f"it does not come back ({problem.message}); starting from nothing")
            self.down()
            self._start(files, programs, wanted)
        return programs

    def down(self) -> None:
        """End the cluster and take back all it changed on this machine. Images and programs stay cached."""
        if not self.exists():
            return
        self.places.state.mkdir(parents=True, exist_ok=True)
        with step("ending the pods"):
            in_order = self._end_pods()
        self._counted_on.clear()
        with step("ending the daemons"):
            for name in reversed([one.name for one in self._daemons(Path())]):
                self._pids.stop(name, grace_seconds=5)
        with step("removing mounts, interfaces, rules and cgroups"):
            self._sweep()
            host.restore_sysctls(self._sysctls)
        shutil.rmtree(self.places.run, ignore_errors=True)
        shutil.rmtree(self.places.state)
        if not in_order:
            # containerd still knows pods that are gone, or cannot start: images are imported again.
            shutil.rmtree(self.places.containerd_root, ignore_errors=True)
        host.remove_empty(self.places.by_products)

    def exists(self) -> bool:
        """Whether anything of a cluster is on this machine: its state, or a process of it."""
        return self.places.state.exists() or bool(processes.marked())

    def health(self) -> dict[str, bool]:
        """Each part of the cluster and whether it works; asks the parts themselves, not pid files alone."""
        parts = {one.name: self._pids.running(one.name) is not None for one in self._daemons(Path())}
        parts["bridge"] = host.bridge_is_up()
        api = Api(self.places.pki) if pki.usable(self.places.pki) else None
        parts["API server answers"] = api is not None and api.ready()
        parts["node Ready"] = api is not None and node_is_ready(api.get(f"/api/v1/nodes/{t.NODE}"))
        parts["DNS answers"] = _answers(f"http://127.0.0.1:{t.DNS_READY_PORT}/ready")
        parts["services are programmed"] = _answers("http://127.0.0.1:10256/healthz")
        parts["kubelet answers"] = _answers("http://127.0.0.1:10248/healthz")
        return parts

    def read_record(self) -> Record | None:
        """What the last `up` wrote down, if it finished."""
        try:
            return Record(**json.loads(self._record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            # None, half a file, or one of another version: nothing to build on.
            return None

    def _adopt(self, found: Record, programs: Path) -> bool:
        if found.checkout != str(CHECKOUT):
            say(
                f"adopting the cluster of {found.checkout} with its objects; `up --reset` starts from nothing"
            )
            self._write_record(Record(found.fingerprint, found.boot, str(CHECKOUT)))
        rebooted = found.boot != processes.boot_id()
        if rebooted:
            say("the machine was restarted since")
            self._sweep()
            shutil.rmtree(self.places.run, ignore_errors=True)
            return False
        broken = [part for part, works in self.health().items() if not works]
        if broken:
            say(f"mending: {', '.join(broken)}")
        return not broken

    def _daemons(self, programs: Path) -> list[Daemon]:
        return [*daemons.control_plane(self.places, programs), *daemons.node(self.places, programs)]

    def _machine(self, programs: Path) -> configuration.Machine:
        directory = packages.cni_directory()
        if directory is None:
            raise Problem("no CNI plugins", f"install the package {packages.CNI_PACKAGE}")
        resolv_conf = Path("/etc/resolv.conf")
        return configuration.Machine(
            may_lower_oom_score=holds(CAP_SYS_RESOURCE),
            cni_directory=str(directory),
            pause_image=f"localhost/devcluster/pause:{programs.name}",
            resolves_names=resolv_conf.exists() and configuration.names_a_server(resolv_conf.read_text()),
        )

    def _fingerprint(self, files: dict[str, str], programs: Path) -> str:
        commands = "\n".join(" ".join(one.argv) for one in self._daemons(programs))
        items = json.dumps(addons.objects(), sort_keys=True)
        subjects = repr(pki.CERTIFICATES)
        return configuration.fingerprint(
            {**files, "commands": commands, "addons": items, "certificates": subjects}
        )

    def _start(self, files: dict[str, str], programs: Path, wanted: str) -> None:
        with step("preparing configuration, bridge and cgroups"):
            self._write_configuration(files)
            host.set_sysctls(self._sysctls)
            host.ensure_bridge()
            firewall.admit_pods()
            host.ensure_cgroups()
        api = Api(self.places.pki)
        with step("starting containerd, etcd and the API server"):
            for daemon in daemons.control_plane(self.places, programs):
                self._run(daemon)
            self._until("containerd", self._containerd_answers)
            self._ensure_pause_image(programs)
            self._until("kube-apiserver", api.ready)
        with step("starting the node"):
            for path, item in addons.objects():
                api.apply(path, item)
            for daemon in daemons.node(self.places, programs):
                self._run(daemon)
            self._until("kubelet", lambda: all(self.health().values()))
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._until("kube-controller-manager", lambda: api.get(account) is not None)
        self._write_record(Record(wanted, processes.boot_id(), str(CHECKOUT)))

    def _write_configuration(self, files: dict[str, str]) -> None:
        if not pki.usable(self.places.pki):
            pki.create(self.places.pki)
        certificates = {path.name: path.read_bytes() for path in self.places.pki.iterdir() if path.is_file()}
        kubeconfigs = {
            f"{user}.kubeconfig": configuration.kubeconfig(user, certificates)
            for user in configuration.KUBECONFIGS
        }
        self.places.volumes.mkdir(parents=True, exist_ok=True)
        self.places.run.mkdir(parents=True, exist_ok=True)
        for name, text in {**files, **kubeconfigs}.items():
            path = self.places.config / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            path.touch(mode=0o600 if name.endswith(".kubeconfig") else 0o644)
            path.write_text(text)

    def _write_record(self, record: Record) -> None:
        draft = self._record.with_suffix(".tmp")
        draft.write_text(json.dumps(record.__dict__))
        draft.replace(self._record)

    def ctr(self, *words: str | Path, timeout_seconds: float = 300) -> str:
        """Run containerd's own client in the kubelet's namespace."""
        address: list[str | Path] = [
            "ctr",
            "--address",
            self.places.containerd_socket,
            "--namespace",
            "k8s.io",
        ]
        return run([*address, *words], timeout_seconds=timeout_seconds)

    def _containerd_answers(self) -> bool:
        return succeeds(["ctr", "--address", self.places.containerd_socket, "version"], timeout_seconds=5)

    def _ensure_pause_image(self, programs: Path) -> None:
        image = self._machine(programs).pause_image
        if image in self.ctr("images", "list", "--quiet").split():
            return
        layer, packed = self.places.run / "pause-layer.tar", self.places.run / "pause.tar"
        archive.layer_of(programs / "pause", layer)
        archive.write(image, layer, packed, entrypoint=["/pause"])
        self.ctr("images", "import", packed)
        layer.unlink()
        packed.unlink()

    def _run(self, daemon: Daemon) -> None:
        self._pids.start(daemon)
        self._counted_on.append(daemon.name)

    def _until(self, daemon: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            for name in self._counted_on:
                log = self.places.logs / f"{name}.log"
                if self._pids.running(name) is None:
                    raise Problem(f"{name} ended: {_last_line(log)}", f"read {log}")
            log = self.places.logs / f"{daemon}.log"
            if time.monotonic() > deadline:
                broken = [part for part, works in self.health().items() if not works]
                raise Problem(
                    f"not ready after {START_SECONDS} s: {', '.join(broken) or daemon}", f"read {log}"
                )
            time.sleep(POLL_SECONDS)

    def _end_pods(self) -> bool:
        self._pids.stop("kubelet", grace_seconds=10)
        record = self.places.config / "containerd.toml"
        programs = build.newest(self.places)
        if not record.exists() or programs is None:
            return False
        try:
            # It may have been killed; only it can tell the CNI plugins that the pods are gone.
            self._run(Daemon("containerd", ("containerd", "--config", str(record))))
            self._until("containerd", self._containerd_answers)
            endpoint = f"-endpoint=unix://{self.places.containerd_socket}"
            run([programs / "stop-pods", endpoint, f"-grace={POD_GRACE_SECONDS}"], timeout_seconds=90)
        except Problem as problem:
            say(f"(not in order: {problem.message}) ")
            return False
        return True

    def _sweep(self) -> None:
        processes.end(processes.marked(), grace_seconds=1)
        processes.end(host.processes_in_cgroups(), grace_seconds=0)
        host.unmount_below(self.places.owned)
        host.remove_links()
        firewall.clear()
        host.remove_cgroups()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # loopback, fixed above
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
