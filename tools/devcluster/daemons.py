# SPDX-License-Identifier: Apache-2.0
"""The daemons of the one-node cluster and their command lines. Pure."""

from __future__ import annotations

from pathlib import Path

from tools.devcluster import addons
from tools.devcluster import topology as t
from tools.devcluster.places import Places
from tools.devcluster.processes import Daemon


def control_plane(places: Places, programs: Path) -> list[Daemon]:
    """What must run before the API server answers, in the order it starts."""
    return [
        Daemon("containerd", ("containerd", "--config", str(places.config / "containerd.toml"))),
        Daemon("etcd", _etcd(places, programs)),
        Daemon("kube-apiserver", _apiserver(places, programs)),
    ]


def node(places: Places, programs: Path) -> list[Daemon]:
    """What talks to the API server, in the order it starts."""
    coredns = (f"{programs}/coredns", "-conf", str(places.config / "Corefile"))
    kubelet = (
        f"{programs}/kubelet",
        f"--config={places.config}/kubelet.yaml",
        f"--kubeconfig={_kubeconfig(places, 'kubelet')}",
        f"--hostname-override={t.NODE}",
        f"--node-ip={t.NODE_ADDRESS}",
        f"--root-dir={places.state}/kubelet",
        f"--cert-dir={places.pki}",
    )
    volumes = (
        f"{programs}/local-volumes",
        f"-kubeconfig={_kubeconfig(places, 'local-volumes')}",
        f"-root={places.volumes}",
        f"-class={addons.STORAGE_CLASS}",
        f"-node={t.NODE}",
    )
    return [
        Daemon("kube-controller-manager", _controllers(places, programs)),
        Daemon("kube-scheduler", _scheduler(places, programs)),
        Daemon("coredns", coredns),
        Daemon("kubelet", kubelet),
        Daemon("kube-proxy", (f"{programs}/kube-proxy", f"--config={places.config}/kube-proxy.yaml")),
        Daemon("local-volumes", volumes),
    ]


def _kubeconfig(places: Places, user: str) -> str:
    return str(places.config / f"{user}.kubeconfig")


def _etcd(places: Places, programs: Path) -> tuple[str, ...]:
    client, peer = f"https://127.0.0.1:{t.ETCD_PORT}", f"http://127.0.0.1:{t.ETCD_PEER_PORT}"
    return (
        f"{programs}/etcd",
        f"--name={t.NODE}",
        f"--data-dir={places.state}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={t.NODE}={peer}",
        f"--cert-file={places.pki}/etcd.crt",
        f"--key-file={places.pki}/etcd.key",
        f"--trusted-ca-file={places.pki}/etcd-ca.crt",
        "--client-cert-auth=true",
        # A development cluster may lose its last writes with the machine's power, not with its own processes.
        "--unsafe-no-fsync=true",
        "--log-level=warn",
    )


def _apiserver(places: Places, programs: Path) -> tuple[str, ...]:
    return (
        f"{programs}/kube-apiserver",
        f"--advertise-address={t.NODE_ADDRESS}",
        f"--bind-address={t.NODE_ADDRESS}",
        f"--secure-port={t.API_PORT}",
        f"--service-cluster-ip-range={t.SERVICE_NETWORK}",
        f"--service-account-issuer={t.ISSUER}",
        f"--service-account-jwks-uri={t.ISSUER}/openid/v1/jwks",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--audit-policy-file={places.config}/audit-policy.yaml",
        f"--audit-log-path={places.logs}/audit.log",
        "--audit-log-maxsize=50",
        "--audit-log-maxbackup=3",
        *_apiserver_trust(places.pki),
    )


def _apiserver_trust(pki: Path) -> tuple[str, ...]:
    return (
        f"--tls-cert-file={pki}/kube-apiserver.crt",
        f"--tls-private-key-file={pki}/kube-apiserver.key",
        f"--client-ca-file={pki}/cluster-ca.crt",
        f"--etcd-servers=https://127.0.0.1:{t.ETCD_PORT}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/apiserver-etcd.crt",
        f"--etcd-keyfile={pki}/apiserver-etcd.key",
        f"--kubelet-certificate-authority={pki}/cluster-ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
    )


def _controllers(places: Places, programs: Path) -> tuple[str, ...]:
    kubeconfig = _kubeconfig(places, "kube-controller-manager")
    return (
        f"{programs}/kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={places.pki}/cluster-ca.crt",
        f"--service-account-private-key-file={places.pki}/service-account.key",
        f"--cluster-signing-cert-file={places.pki}/cluster-ca.crt",
        f"--cluster-signing-key-file={places.pki}/cluster-ca.key",
    )


def _scheduler(places: Places, programs: Path) -> tuple[str, ...]:
    kubeconfig = _kubeconfig(places, "kube-scheduler")
    return (
        f"{programs}/kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    )
