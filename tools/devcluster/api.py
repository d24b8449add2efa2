# SPDX-License-Identifier: Apache-2.0
"""The few requests to the API server that `up` makes; kubectl would cost half a second each."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from tools.devcluster import topology as t
from tools.devcluster.problem import Problem

TIMEOUT_SECONDS = 5


class Api:
    """The API server of the one-node cluster, as its administrator."""

    def __init__(self, pki: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(pki / "cluster-ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at a path; None when it is not there or nobody answers."""
        try:
            status, body = self._request("GET", path, None)
        except (OSError, http.client.HTTPException):
            return None
        found: dict[str, Any] = json.loads(body)
        return found if status == http.HTTPStatus.OK else None

    def ready(self) -> bool:
        """Whether the API server says it serves."""
        try:
            status, _ = self._request("GET", "/readyz", None)
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK

    def apply(self, path: str, item: dict[str, Any]) -> None:
        """Server-side apply of one object. Raises `Problem` when the API server refuses it."""
        target = f"{path}/{item['metadata']['name']}?fieldManager=devcluster&force=true"
        try:
            status, body = self._request("PATCH", target, json.dumps(item))
        except (OSError, http.client.HTTPException) as error:
            raise Problem(
                f"the API server does not answer: {error}", "run `make cluster-up` again"
            ) from error
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise Problem(
                f"the API server refused {target}: {body.decode()}", "correct the object and try again"
            )

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            t.NODE_ADDRESS, t.API_PORT, timeout=TIMEOUT_SECONDS, context=self._tls
        )
        try:
            connection.request(method, path, body, {"Content-Type": "application/apply-patch+yaml"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def node_is_ready(node: dict[str, Any] | None) -> bool:
    """Whether a Node's conditions say it takes pods."""
    conditions = node.get("status", {}).get("conditions", []) if node else []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
