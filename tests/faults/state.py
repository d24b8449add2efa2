# SPDX-License-Identifier: Apache-2.0
"""The state of a pool's world without what chance and time put into it: pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from agentpool_core.cluster import ANNOTATION_TEMPLATE, LABEL_ROLE

Object = dict[str, Any]

_SERVER = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
    "selfLink",
    "namespace",
)
_TIMES = (
    "lastTransitionTime",
    "lastUpdateTime",
    "lastProbeTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "renewTime",
)
_CHANCE = ("podIP", "podIPs", "epoch", "incarnation", "storeGeneration", "clusterIPs")
_HASHES = ("pod-template-hash",)
_LATE = ("message", "resident", "instances")
"""Words and counts, which the operator writes late on purpose when nothing else changed."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----")
_RANDOM_NAME = re.compile(r"(-(?:warm|hot|generic))-[a-z0-9]{4,12}\b")


def normal(kind: str, body: Object) -> str:
    """One object as text that is equal for objects that only chance tells apart."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in _SERVER}
    annotations = dict(metadata.get("annotations") or {})
    if annotations.pop(ANNOTATION_TEMPLATE, None):
        # Two pools of one spec have different hashes: the pool's UID is in their labels.
        annotations[ANNOTATION_TEMPLATE] = "hash"
    annotations.pop(DELETION_COST, None)
    metadata["annotations"] = annotations
    kept = {key: value for key, value in body.items() if key not in ("metadata", "apiVersion", "kind")}
    if kind == "Secret":
        kept = {"keys": sorted(kept.get("data") or {})}
    text = json.dumps(_plain({"kind": kind, "metadata": metadata, **kept}), sort_keys=True)
    return _KEY.sub("<key>", _RANDOM_NAME.sub(r"\1-x", text))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        dropped = (*_TIMES, *_CHANCE, *_HASHES, *_LATE)
        return {key: _plain(one) for key, one in value.items() if key not in dropped}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def snapshot(
    objects: Mapping[str, Iterable[Object]], held: Iterable[str] = (), known: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The whole state: sorted texts of all objects, UIDs replaced by what they are UIDs of.

    Args:
        objects: by kind.
        held: what hosts hold, as text.
        known: what else is to be replaced, for example ids that hold the namespace's name.
    """
    names = dict(known or {})
    for kind, bodies in objects.items():
        for body in bodies:
            role = (body["metadata"].get("labels") or {}).get(LABEL_ROLE, "")
            name = f"{kind}-{role}" if kind == "Pod" else f"{kind}-{body['metadata']['name']}"
            names[body["metadata"]["uid"]] = f"<{name}>"
    texts = [normal(kind, body) for kind, bodies in objects.items() for body in bodies]
    return tuple(sorted(_without_uids([*texts, *held], names)))


def _without_uids(texts: Iterable[str], names: Mapping[str, str]) -> list[str]:
    pattern = re.compile("|".join(map(re.escape, names))) if names else None
    if pattern is None:
        return list(texts)
    return [pattern.sub(lambda found: names[found.group()], text) for text in texts]


def without_history(state: Iterable[str]) -> tuple[str, ...]:
    """A state without the counts of how often its objects were changed."""
    pattern = re.compile(r'"(?:observedGeneration|generation)": \d+')
    return tuple(sorted(pattern.sub('"generation": 0', text) for text in state))


def difference(wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    """What a state lacks (-) and has too much (+)."""
    missing, extra = list(wanted), []
    for text in found:
        if text in missing:
            missing.remove(text)
        else:
            extra.append(text)
    return [*(f"- {text}" for text in missing), *(f"+ {text}" for text in extra)]


def first_difference(wanted: Iterable[str], found: Iterable[str], around: int = 240) -> str:
    """Where two states begin to differ, for people."""
    lines = difference(wanted, found)
    lacks = [line[2:] for line in lines if line.startswith("-")]
    extra = [line[2:] for line in lines if line.startswith("+")]
    if len(lacks) == len(extra) == 0:
        return "no difference"
    if not lacks or not extra:
        return "; ".join(line[: 2 * around] for line in lines[:4])
    one = lacks[0]
    other = max(extra, key=lambda text: _common(one, text))
    at = max(0, _common(one, other) - 40)
    return (
        f"wanted ..{one[at : at + around]}.. found ..{other[at : at + around]}.. ({len(lacks)}/{len(extra)})"
    )


def _common(one: str, other: str) -> int:
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return number
    return min(len(one), len(other))
