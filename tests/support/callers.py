# SPDX-License-Identifier: Apache-2.0
"""Applications that call a gateway: tokens of an issuer, and what a request looks like."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

ISSUER = "https://issuer.test"
AUDIENCE = "agentpool"


class TokenIssuer:
    """An issuer of JWTs with one key."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self._key = Ed25519PrivateKey.generate()

    def jwks(self) -> dict[str, Any]:
        """Its public keys."""
        public = json.loads(OKPAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "EdDSA"}]}

    def write(self, path: Path) -> Path:
        """Its public keys as a file."""
        path.write_text(json.dumps(self.jwks()))
        return path

    def token(self, subject: str = "app", **claims: Any) -> str:
        """A token that is good for an hour, unless `claims` say otherwise (None leaves one out)."""
        now = time.time()
        values = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600, **claims}
        present = {name: value for name, value in values.items() if value is not None}
        return jwt.encode(present, self._key, algorithm="EdDSA", headers={"kid": self.kid})


def body(
    project: str = "project", tenant: str = "tenant", value: Any = "hello", **more: Any
) -> dict[str, Any]:
    """The body of an invoke."""
    return {"tenant_id": tenant, "project_id": project, "input": value, **more}
