# SPDX-License-Identifier: Apache-2.0
"""The key pair of call tokens: read from its Secret, made when there is none."""

from __future__ import annotations

import structlog

from agentpool_core.cluster import CALL_TOKEN_PRIVATE, CALL_TOKEN_PUBLIC, LABEL_MANAGED_BY, MANAGED_BY
from agentpool_operator.kube.kinds import SECRETS, Cluster, Conflict
from agentpool_operator.reconcile.access import value_of
from agentpool_rpc.tokens import generate_keypair

log = structlog.get_logger(__name__)


async def call_token_keys(cluster: Cluster, namespace: str, name: str) -> tuple[bytes, str]:
    """Private key and public keys (PEM, newest first).

    Only the leader makes the pair, so that there is one. Raises KubeError, and ValueError for a Secret that
    lacks a key.
    """
    for _ in range(2):
        body = await cluster.get(SECRETS, namespace, name)
        if body is not None and body.get("data"):
            private, public = value_of(body, CALL_TOKEN_PRIVATE), value_of(body, CALL_TOKEN_PUBLIC)
            if not private or not public:
                keys = f"{CALL_TOKEN_PRIVATE} and {CALL_TOKEN_PUBLIC}"
                raise ValueError(f"Secret {namespace}/{name} needs {keys}; delete it to have it made anew")
            return private.encode() + b"\n", public + "\n"
        made_private, made_public = generate_keypair()
        secret = {
            "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
            "type": "Opaque",
            "stringData": {
                CALL_TOKEN_PRIVATE: made_private.decode(),
                CALL_TOKEN_PUBLIC: made_public.decode(),
            },
        }
        try:
            if body is None:
                await cluster.create(SECRETS, namespace, secret)
            else:
                # An empty Secret that somebody made beforehand is filled.
                await cluster.apply(SECRETS, namespace, secret)
            log.info("call_token_key_made", secret=name)
        except Conflict:
            continue
    body = await cluster.get(SECRETS, namespace, name)
    return value_of(body, CALL_TOKEN_PRIVATE).encode() + b"\n", value_of(body, CALL_TOKEN_PUBLIC) + "\n"
