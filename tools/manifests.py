# SPDX-License-Identifier: Apache-2.0
"""The chart as plain manifests, for delivery without Helm: `make manifests`. Same chart, same bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.devcluster.build import newest
from tools.devcluster.places import Places

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "agentpool"
INSTALL = ROOT / "manifests" / "install.yaml"
NAMESPACE = "agentpool-system"
HEAD = """\
# Generated from charts/agentpool by `make manifests`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""
HELM_SECONDS = 60
FIRST = ("Namespace", "ServiceAccount")
"""Kinds that others refer to."""


class HelmMissing(Exception):
    """No helm on this machine."""


def helm() -> Path:
    """The helm of this machine, else the one that `make cluster-up` builds. Raises HelmMissing."""
    found = shutil.which("helm")
    if found is not None:
        return Path(found)
    built = newest(Places())
    if built is None or not (built / "helm").exists():
        raise HelmMissing("there is no helm: install it, or run `make cluster-up`, which builds one")
    return built / "helm"


def render(*arguments: str, release: str = "agentpool", namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """The objects of the chart. Raises HelmMissing, and CalledProcessError with helm's words in `stderr`."""
    command = [str(helm()), "template", release, str(CHART), "--namespace", namespace, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=HELM_SECONDS)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def plain() -> list[dict[str, Any]]:
    """The objects of an installation without Helm, and their namespace, in the order to apply them.

    The definitions are not among them: `manifests/kustomization.yaml` takes these from `crds/`.
    """
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels = {"app.kubernetes.io/part-of": "agentpool", **restricted}
    metadata = {"name": NAMESPACE, "labels": labels}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    objects = [
        namespace,
        *(_without_helm(one) for one in render("--no-hooks", "--set", "crds.enabled=false")),
    ]
    return sorted(objects, key=lambda one: FIRST.index(one["kind"]) if one["kind"] in FIRST else len(FIRST))


def _without_helm(found: dict[str, Any]) -> dict[str, Any]:
    metadata = found["metadata"]
    for name in ("app.kubernetes.io/managed-by", "helm.sh/chart"):
        metadata["labels"].pop(name, None)
    annotations = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if not key.startswith("helm.sh/")
    }
    if annotations:
        metadata["annotations"] = annotations
    return found


def text() -> str:
    """Text of the file."""
    documents = [yaml.safe_dump(one, sort_keys=True, width=100) for one in plain()]
    return HEAD + "---\n" + "---\n".join(documents)


def main() -> int:
    """Write the file."""
    try:
        INSTALL.write_text(text(), encoding="utf-8")
    except HelmMissing as exc:
        print(exc, file=sys.stderr)
        return 1
    print(f"{INSTALL.relative_to(ROOT)} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
