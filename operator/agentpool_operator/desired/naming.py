# SPDX-License-Identifier: Apache-2.0
"""Names, labels and ownership of the objects that the operator makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentpool_core.cluster import (
    AGENT_NAME,
    API_VERSION,
    LABEL_COMPONENT,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_POOL,
    LABEL_POOL_UID,
    LABEL_ROLE,
    MANAGED_BY,
    ROLE_WARM,
)

LABEL_CHARS = 63


@dataclass(frozen=True, slots=True)
class Owner:
    """The pool that everything belongs to."""

    namespace: str
    name: str
    uid: str

    @property
    def reference(self) -> dict[str, Any]:
        """As the controller in an object's ownerReferences."""
        return reference("AgentPool", self.name, self.uid)

    @property
    def labels(self) -> dict[str, str]:
        """On everything that belongs to the pool."""
        return {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_POOL: fitting(self.name, LABEL_CHARS),
            LABEL_POOL_UID: self.uid,
        }

    def pod_labels(self, role: str) -> dict[str, str]:
        """On an agent pod of a role."""
        return {**self.labels, LABEL_NAME: AGENT_NAME, LABEL_COMPONENT: "agent", LABEL_ROLE: role}

    @property
    def warm_selector(self) -> dict[str, str]:
        """Selects the shared pods; never changes, for a Deployment's selector cannot."""
        return {LABEL_NAME: AGENT_NAME, LABEL_POOL_UID: self.uid, LABEL_ROLE: ROLE_WARM}

    def child(self, suffix: str) -> str:
        """Name of a child, a DNS label."""
        return fitting(self.name, LABEL_CHARS - 1 - len(suffix)) + "-" + suffix

    @property
    def warm_name(self) -> str:
        """Of the Deployment of shared pods and its disruption budget."""
        return self.child("warm")

    @property
    def service_name(self) -> str:
        """Of the headless Service over all agent pods."""
        return self.child("agents")

    @property
    def secret_name(self) -> str:
        """Of the Secret with the pool's own access to Redis."""
        return f"{self.name}-agentpool-redis"


def reference(kind: str, name: str, uid: str) -> dict[str, Any]:
    """A controller reference to an object of our group."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def fitting(text: str, chars: int) -> str:
    """`text`, or its beginning with a hash of the whole, in at most that many characters."""
    if len(text) <= chars:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: chars - 9].rstrip('-.')}-{digest}"


def fingerprint(value: Mapping[str, Any]) -> str:
    """The same for the same JSON value; 16 characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def selector_text(labels: Mapping[str, str]) -> str:
    """Labels as a selector in text form."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def covers(observed: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there already: fields that the server added are no difference."""
    if observed is None and wanted in ({}, [], "", False):
        # The server leaves empty values out.
        return True
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and all(covers(observed.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list | tuple):
        same_length = isinstance(observed, list | tuple) and len(observed) == len(wanted)
        return same_length and all(covers(o, w) for o, w in zip(observed, wanted, strict=True))
    return bool(observed == wanted)
