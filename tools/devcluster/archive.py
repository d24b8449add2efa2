# SPDX-License-Identifier: Apache-2.0
"""Container images of one layer, written without a container tool."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
READ_BYTES = 1 << 20
# Not the time of the build: the same layer is the same image.
EPOCH = "1970-01-01T00:00:00Z"


def write(image: str, layer: Path, target: Path, *, entrypoint: list[str] | None = None) -> None:
    """Write `image` to `target` as `docker save` does. `layer` is the tar of its root directory."""
    digest = _digest(layer)
    config = _config(digest, entrypoint or [])
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [image], "Layers": [f"{digest}/layer.tar"]}]
    draft = target.with_name(target.name + ".new")
    with tarfile.open(draft, "w") as archive:
        _add(archive, f"{name}.json", config)
        archive.add(layer, f"{digest}/layer.tar", filter=_anonymous)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    draft.replace(target)


def layer_of(program: Path, target: Path) -> None:
    """A layer that holds one program, in the root directory; the same bytes for the same program."""
    with tarfile.open(target, "w") as layer, program.open("rb") as content:
        entry = tarfile.TarInfo(program.name)
        entry.size = program.stat().st_size
        entry.mode = 0o755
        layer.addfile(entry, content)


def _config(layer: str, entrypoint: list[str]) -> bytes:
    return json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": EPOCH,
            # One entry per layer: buildah refuses to build upon an image whose history is shorter.
            "history": [{"created": EPOCH, "created_by": "tools/devcluster"}],
            "config": {
                "Entrypoint": entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        }
    ).encode()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
