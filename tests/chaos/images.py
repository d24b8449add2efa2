# SPDX-License-Identifier: Apache-2.0
"""The agent image of a run: the deployed one with the ledger, as a user's image is made."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from agentpool_core.cluster import LABEL_TIER
from support.e2e import SYSTEM, Pool
from support.kubernetes import Kubernetes
from support.repository import ROOT

LEDGER = Path(__file__).parent / "image" / "ledger.py"
ENTRYPOINT = "ledger:Ledger"
REPOSITORY = "localhost/agentpool/ledger"
BUILD_SECONDS = 300


def deployed(kube: Kubernetes) -> str:
    """Image of agent pods whose pool names none."""
    operator = kube.get("deployments", SYSTEM, "agentpool-operator")
    assert operator is not None
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    found = {one["name"]: one.get("value", "") for one in container["env"]}
    return str(found["AGENTPOOL_OPERATOR_AGENT_IMAGE"])


def built(kube: Kubernetes, release: str = "a") -> str:
    """The image's name once the node has it. `release` makes names differ that are the same inside."""
    base = deployed(kube)
    tag = hashlib.sha256(base.encode() + LEDGER.read_bytes()).hexdigest()[:12] + f"-{release}"
    name = f"{REPOSITORY}:{tag}"
    (node,) = kube.list("nodes")
    if any(name in (one.get("names") or ()) for one in node["status"]["images"]):
        return name
    with tempfile.TemporaryDirectory(prefix="ap-ledger-") as folder:
        shutil.copy(LEDGER, folder)
        (Path(folder) / "Dockerfile").write_text(
            f"FROM {base}\nCOPY --chmod=0444 ledger.py /app/\n", encoding="utf-8"
        )
        kube.run("python3", str(ROOT / "tools" / "devcluster"), "image", name, folder, seconds=BUILD_SECONDS)
    return name


def behind(pool: Pool, name: str) -> list[str]:
    """Pods with another image, those that end included. A COLD instance in use keeps its pod."""
    return [
        pod["metadata"]["name"]
        for pod in pool.pods()
        if any(one["image"] != name for one in pod["spec"]["containers"])
        and pod["metadata"]["labels"].get(LABEL_TIER) != "cold"
    ]
