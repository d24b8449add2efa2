# SPDX-License-Identifier: Apache-2.0
"""The cluster's programs, built from published Go modules, cached by the hash of their sources."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from tools.devcluster import toolchain
from tools.devcluster.console import step
from tools.devcluster.places import SOURCES, Places
from tools.devcluster.shell import run

MODULE = SOURCES / "kubernetes"
# The names one binary answers to, see kubernetes/main.go.
LINKS = (
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "local-volumes",
    "stop-pods",
)
TAGS = "providerless,dockerless"
# About 5 minutes on two cores that have nothing else to do.
BUILD_SECONDS = 2400
KEPT = 3


def sources(module: Path = MODULE) -> dict[str, bytes]:
    """Every file the build reads from this checkout, by its path below the module."""
    wanted = [*module.rglob("*.go"), module / "go.mod", module / "go.sum"]
    return {str(path.relative_to(module)): path.read_bytes() for path in wanted}


def pinned(go_mod: str, module: str) -> str:
    """The version of a module in go.mod, `v1.34.4`."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise ValueError(f"go.mod does not require {module}")
    return found[1]


def linker_flags(go_mod: str) -> str:
    """What the programs say of their own version; charts see the API server's."""
    kubernetes, helm = pinned(go_mod, "k8s.io/kubernetes"), pinned(go_mod, "helm.sh/helm/v3")
    major, minor = kubernetes.removeprefix("v").split(".")[:2]
    values = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "helm.sh/helm/v3/internal/version.version": helm,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": major,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": minor,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor": major,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor": minor,
    }
    return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())


def fingerprint(files: dict[str, bytes]) -> str:
    """The hash that names a build: of its sources and of how they are built."""
    digest = hashlib.sha256(f"{TAGS}\0{linker_flags(files['go.mod'].decode())}\0{LINKS}".encode())
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()[:16]


def programs(places: Places) -> Path:
    """The directory of the cluster's programs; builds them when this machine has no build of these sources.

    The caller holds the machine's lock. The directory appears whole or not at all.
    """
    files = sources()
    target = places.cache / "bin" / fingerprint(files)
    if not target.exists():
        go = toolchain.go(places, MODULE / "go.mod")
        draft = target.with_name("draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with step("building Kubernetes and helm (once; 4 to 6 minutes on two cores)"):
            _compile(go, draft, files["go.mod"].decode())
        (draft / "devcluster").rename(draft / "kube")
        for link in LINKS:
            (draft / link).symlink_to("kube")
        draft.rename(target)
    os.utime(target)
    _forget_old_builds(target)
    return target


def _compile(go: Path, target: Path, go_mod: str) -> None:
    env = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath"}
    flags = ["-tags", TAGS, "-ldflags", linker_flags(go_mod), "-o", f"{target}/"]
    run(
        [go, "build", *flags, ".", "./pause", "helm.sh/helm/v3/cmd/helm"],
        timeout_seconds=BUILD_SECONDS,
        env=env,
        cwd=MODULE,
        remedy="see that the Go module proxy answers (`go env GOPROXY`) and that 6 GB of disk are free",
    )


def _forget_old_builds(current: Path) -> None:
    """Keep the builds last used. A daemon that runs from a removed one keeps its file until it ends."""
    builds = sorted(current.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for build in builds[KEPT:]:
        if build != current:
            shutil.rmtree(build, ignore_errors=True)


def newest(places: Places) -> Path | None:
    """The build last used on this machine, of whatever sources."""
    builds = [path for path in (places.cache / "bin").glob("*") if (path / "kube").exists()]
    return max(builds, key=lambda path: path.stat().st_mtime, default=None)
