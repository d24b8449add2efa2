# SPDX-License-Identifier: Apache-2.0
"""The configuration files of the daemons, as text. Pure: the same places and machine give the same bytes.

Kubernetes reads YAML, of which JSON is a part; JSON is what the standard library writes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tools.devcluster import topology as t
from tools.devcluster.places import Places

# Who talks to the API server with a kubeconfig of its own: each with its own certificate and no more rights.
KUBECONFIGS = (
    "admin",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "coredns",
    "local-volumes",
)


@dataclass(frozen=True)
class Machine:
    """What differs between machines and changes the configuration."""

    # Without CAP_SYS_RESOURCE not even root may lower an oom_score_adj; every pod sandbox would fail.
    may_lower_oom_score: bool
    cni_directory: str
    pause_image: str
    # Whether /etc/resolv.conf names a server that can be asked for names outside the cluster.
    resolves_names: bool


def kubeconfig(user: str, certificates: Mapping[str, bytes]) -> str:
    """A kubeconfig that carries its certificates, so it can be copied."""

    def encoded(name: str) -> str:
        return base64.b64encode(certificates[name]).decode()

    server = f"https://{t.NODE_ADDRESS}:{t.API_PORT}"
    return _json(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": t.CLUSTER,
                    "cluster": {"server": server, "certificate-authority-data": encoded("cluster-ca.crt")},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": encoded(f"{user}.crt"),
                        "client-key-data": encoded(f"{user}.key"),
                    },
                }
            ],
            "contexts": [{"name": t.CLUSTER, "context": {"cluster": t.CLUSTER, "user": user}}],
            "current-context": t.CLUSTER,
        }
    )


def containerd(places: Places, machine: Machine) -> str:
    """containerd's configuration; version 2 is read by 1.6, 1.7 and 2.x."""
    restrict = json.dumps(not machine.may_lower_oom_score)
    return f"""version = 2
root = "{places.containerd_root}"
state = "{places.run}/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{places.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{machine.pause_image}"
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{machine.cni_directory}"
    conf_dir = "{places.config}/cni"
"""


def pod_network(places: Places) -> str:
    """The CNI chain: a bridge with host-local addresses, and host ports."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": t.POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        # Leases end with the uptime, as the pods that hold them do.
        "dataDir": str(places.run / "addresses"),
    }
    bridge = {"type": "bridge", "bridge": t.BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return _json({"cniVersion": "0.4.0", "name": t.CLUSTER, "plugins": [{**bridge, "ipam": ipam}, portmap]})


def kubelet(places: Places) -> str:
    """KubeletConfiguration."""
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": t.NODE_ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(places.pki / "cluster-ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(places.pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(places.pki / "kubelet.key"),
            "containerRuntimeEndpoint": f"unix://{places.containerd_socket}",
            # Not systemd: the machine may have none, and runc makes the same cgroups by itself.
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": t.CGROUP,
            "failSwapOn": False,
            "failCgroupV1": False,
            "maxPods": 250,
            "clusterDNS": [t.NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(places.config / "resolv.conf"),
            "podLogsDir": str(places.logs / "pods"),
            "volumePluginDir": str(places.state / "volume-plugins"),
            # Images are imported, there is no registry to pull them from again: they are never collected.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "200Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
        }
    )


def proxy(places: Places) -> str:
    """KubeProxyConfiguration. Node ports answer on the bridge alone; conntrack's limits stay as they are."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(places.config / "kube-proxy.kubeconfig")},
            "mode": "iptables",
            "clusterCIDR": t.POD_NETWORK,
            "hostnameOverride": t.NODE,
            "nodePortAddresses": [t.POD_NETWORK],
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "iptables": {"localhostNodePorts": False, "syncPeriod": "30s", "minSyncPeriod": "200ms"},
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
    )


def dns(places: Places, machine: Machine) -> str:
    """The Corefile. A server on the node's address: pods ask it without a service in between."""
    # The file, not what it says now: a machine that changes networks keeps its cluster.
    forward = "    forward . /etc/resolv.conf\n" if machine.resolves_names else ""
    return f""".:53 {{
    bind {t.NODE_ADDRESS}
    errors
    ready 127.0.0.1:{t.DNS_READY_PORT}
    cache 5
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {places.config}/coredns.kubeconfig {t.CLUSTER}
        pods insecure
        fallthrough in-addr.arpa
    }}
{forward}}}
"""


def audit_policy() -> str:
    """Which requests are logged: every write, with who and what but without the body; reads are not."""
    writes = {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]}
    rules = [writes, {"level": "None"}]
    stages = ["RequestReceived", "ResponseStarted"]
    return _json({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": stages, "rules": rules})


def names_a_server(resolv_conf: str) -> bool:
    """Whether the text of a resolv.conf names a server other than the cluster's own."""
    words = (line.split() for line in resolv_conf.splitlines())
    return any(word[1] != t.NODE_ADDRESS for word in words if len(word) > 1 and word[0] == "nameserver")


def files(places: Places, machine: Machine) -> dict[str, str]:
    """Every configuration file but the kubeconfigs, by its path below `places.config`."""
    return {
        "containerd.toml": containerd(places, machine),
        "cni/10-bridge.conflist": pod_network(places),
        "kubelet.yaml": kubelet(places),
        "kube-proxy.yaml": proxy(places),
        "Corefile": dns(places, machine),
        "audit-policy.yaml": audit_policy(),
        "resolv.conf": f"nameserver {t.NODE_ADDRESS}\n",
    }


def fingerprint(parts: Mapping[str, str]) -> str:
    """A hash of everything that makes a running cluster another one than these sources want."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name}\0{len(parts[name])}\0{parts[name]}".encode())
    return digest.hexdigest()[:16]


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"
