# SPDX-License-Identifier: Apache-2.0
"""Images for the cluster from ordinary Dockerfiles, with Docker or without.

Without Docker: buildah in a chroot, on a base image made by mmdebstrap once per machine, imported into the
node's containerd. A Dockerfile takes its base from `ARG BASE`; its own default serves Docker.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tools.devcluster import archive, packages
from tools.devcluster.console import step
from tools.devcluster.own_cluster import OwnCluster
from tools.devcluster.places import Places
from tools.devcluster.shell import run

SUITE = "bookworm"
# What the programs need of the distribution: the interpreter they are written for, trust roots, and the
# store, which an image of this base cannot install later: it has no apt.
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv", "redis-server")
# Bump when the list above or the steps below change: the cached base is made anew.
BASE_EDITION = 2
BASE_IMAGE = f"localhost/devcluster/base:{SUITE}-{BASE_EDITION}"
BUILD_SECONDS = 900
# Settings of the machine's package index; a RUN step sees those its Dockerfile declares as ARG.
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
TRUST_ROOTS = Path("/etc/ssl/certs")


def build_with_docker(name: str, context: Path, dockerfile: Path) -> None:
    """Build an image with the Docker engine."""
    with step(f"building {name}"):
        command: list[str | Path] = ["docker", "build", "--tag", name, "--file", dockerfile, context]
        run(command, timeout_seconds=BUILD_SECONDS)


def build_and_import(cluster: OwnCluster, name: str, context: Path, dockerfile: Path) -> None:
    """Build an image with buildah and import it into the node's containerd, which has to run."""
    packages.install(packages.missing(packages.IMAGE_PROGRAMS))
    ensure_base(cluster.places)
    packed = cluster.places.run / "image.tar"
    packed.unlink(missing_ok=True)
    with step(f"building {name}"):
        buildah(cluster.places, *build_arguments(name, context, dockerfile, os.environ))
    with step(f"importing {name}"):
        buildah(cluster.places, "push", "--quiet", name, f"docker-archive:{packed}:{name}")
        cluster.ctr("images", "import", packed)
        packed.unlink()


def build_arguments(
    name: str, context: Path, dockerfile: Path, environ: Mapping[str, str]
) -> list[str | Path]:
    """The `buildah bud` command line. Pure."""
    index = {key: environ[key] for key in PASSED_ON if key in environ}
    roots = {"PIP_CERT": str(TRUST_ROOTS / "ca-certificates.crt")}
    settings = [f"--build-arg={key}={value}" for key, value in {**roots, **index}.items()]
    trust = f"--volume={TRUST_ROOTS}:{TRUST_ROOTS}:ro"
    isolation = ["--isolation=chroot", "--layers", "--pull-never", "--quiet", trust]
    base = f"--build-arg=BASE={BASE_IMAGE}"
    return ["bud", *isolation, base, *settings, "--tag", name, "--file", dockerfile, context]


def ensure_base(places: Places) -> None:
    """The base image in buildah's storage; its tar is made once per machine."""
    if BASE_IMAGE in buildah(places, "images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    layer = places.cache / f"base-{SUITE}-{BASE_EDITION}.tar"
    if not layer.exists():
        with step(f"making the base image from Debian {SUITE} (once)"):
            _bootstrap(layer)
    packed = places.cache / "base-image.tar"
    with step("storing the base image"):
        archive.write(BASE_IMAGE, layer, packed)
        buildah(places, "pull", "--quiet", f"docker-archive:{packed}")
        packed.unlink()


def buildah(places: Places, *words: str | Path) -> str:
    """Run buildah on a storage of our own, so that no other user of it on this machine is touched."""
    storage: list[str | Path] = [
        "--root",
        places.cache / "buildah",
        "--runroot",
        places.run / "buildah",
        "--storage-driver",
        "overlay",
    ]
    return run(["buildah", *storage, *words], timeout_seconds=BUILD_SECONDS)


def _bootstrap(layer: Path) -> None:
    draft = layer.with_name(layer.name + ".new.tar")
    draft.unlink(missing_ok=True)
    layer.parent.mkdir(parents=True, exist_ok=True)
    slim = [
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
    ]
    wanted = f"--include={','.join(BASE_PACKAGES)}"
    run(
        ["mmdebstrap", "--quiet", "--variant=essential", *slim, wanted, SUITE, draft],
        timeout_seconds=BUILD_SECONDS,
        remedy="see that the machine's package sources answer (`apt-get update`), then try again",
    )
    shutil.move(draft, layer)
