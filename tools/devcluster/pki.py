# SPDX-License-Identifier: Apache-2.0
"""The cluster's certificates, made by openssl. They live and end with the cluster's state."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tools.devcluster.shell import run, succeeds
from tools.devcluster.topology import API_SERVICE_ADDRESS, NODE, NODE_ADDRESS

DAYS = 365
# A cluster whose certificates end sooner is made anew: `up` should not hand out one that dies soon.
RENEW_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Certificate:
    """One certificate to issue. `names` are subject alternative names as openssl writes them."""

    name: str
    subject: str
    issuer: str = "cluster-ca"
    names: tuple[str, ...] = ()


CERTIFICATES = (
    Certificate(
        "kube-apiserver",
        "/CN=kube-apiserver",
        names=(
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
            "DNS:localhost",
            "IP:127.0.0.1",
            f"IP:{NODE_ADDRESS}",
            f"IP:{API_SERVICE_ADDRESS}",
        ),
    ),
    Certificate("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
    Certificate("admin", "/O=system:masters/CN=admin"),
    Certificate("kube-controller-manager", "/CN=system:kube-controller-manager"),
    Certificate("kube-scheduler", "/CN=system:kube-scheduler"),
    Certificate("kube-proxy", "/CN=system:kube-proxy"),
    Certificate("coredns", "/CN=system:coredns"),
    Certificate("local-volumes", "/CN=system:local-volumes"),
    Certificate(
        "kubelet", f"/O=system:nodes/CN=system:node:{NODE}", names=(f"DNS:{NODE}", f"IP:{NODE_ADDRESS}")
    ),
    # etcd trusts an authority of its own: the cluster's certificates open the API, not the database below.
    Certificate("etcd", "/CN=etcd", issuer="etcd-ca", names=("DNS:localhost", "IP:127.0.0.1")),
    Certificate("apiserver-etcd", "/CN=kube-apiserver-etcd-client", issuer="etcd-ca"),
    # With it the API server speaks for users to aggregated API servers.
    Certificate("front-proxy", "/CN=front-proxy-client", issuer="front-proxy-ca"),
)
AUTHORITIES = ("cluster-ca", "etcd-ca", "front-proxy-ca")
COMPLETE = "complete"


def extensions(certificate: Certificate) -> str:
    """What openssl signs with: every certificate can serve and call, its names say what it serves."""
    lines = [
        "basicConstraints=CA:FALSE",
        "keyUsage=digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
    ]
    if certificate.names:
        lines.append("subjectAltName=" + ",".join(certificate.names))
    return "\n".join(lines) + "\n"


def usable(directory: Path) -> bool:
    """Whether the directory holds a whole set of certificates that is good for another 30 days."""
    if not (directory / COMPLETE).exists():
        return False
    check = ["openssl", "x509", "-checkend", str(RENEW_SECONDS), "-noout", "-in"]
    return succeeds([*check, directory / "cluster-ca.crt"])


def create(directory: Path) -> None:
    """Write authorities, certificates, keys and the service account key pair; readable by root alone."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    for authority in AUTHORITIES:
        _create_authority(directory, authority)
    for certificate in CERTIFICATES:
        _issue(directory, certificate)
    account = directory / "service-account.key"
    run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", account])
    run(["openssl", "pkey", "-in", account, "-pubout", "-out", directory / "service-account.pub"])
    for key in directory.glob("*.key"):
        os.chmod(key, 0o600)
    (directory / COMPLETE).touch()


def _new_key(directory: Path, name: str) -> list[str | Path]:
    curve: list[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    return ["openssl", "req", *curve, "-nodes", "-keyout", directory / f"{name}.key"]


def _create_authority(directory: Path, name: str) -> None:
    subject = ["-subj", f"/CN=agentpool-devcluster-{name}", "-days", str(DAYS)]
    run([*_new_key(directory, name), "-x509", *subject, "-out", directory / f"{name}.crt"])


def _issue(directory: Path, certificate: Certificate) -> None:
    name, issuer = certificate.name, directory / certificate.issuer
    request, rules = directory / f"{name}.csr", directory / f"{name}.ext"
    run([*_new_key(directory, name), "-subj", certificate.subject, "-out", request])
    rules.write_text(extensions(certificate))
    signer = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-set_serial", f"0x{secrets.token_hex(16)}"]
    terms: list[str | Path] = ["-days", str(DAYS), "-extfile", rules, "-out", directory / f"{name}.crt"]
    run(["openssl", "x509", "-req", "-in", request, *signer, *terms])
    request.unlink()
    rules.unlink()
