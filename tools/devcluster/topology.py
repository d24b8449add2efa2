# SPDX-License-Identifier: Apache-2.0
"""Names, addresses and ports of the one-node cluster. All of them are on a bridge of its own.

The API server, the kubelet and the node ports listen on the bridge's address: this machine and its pods reach
them, the network the machine is on does not.
"""

from __future__ import annotations

CLUSTER = "agentpool-dev"
NODE = "agentpool-dev"

BRIDGE = "agentpool0"
POD_NETWORK = "10.244.0.0/16"
NODE_ADDRESS = "10.244.0.1"
NODE_PREFIX = 16
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"

# Beside the usual ones, which a Kubernetes or an etcd of the machine's own may hold.
API_PORT = 16443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
DNS_READY_PORT = 18181
# The gateway's NodePort in each kind of cluster; kind-config.yaml forwards it to this machine's loopback.
GATEWAY_NODE_PORT = 30080

ISSUER = "https://kubernetes.default.svc.cluster.local"

# A cgroup of our own below the root: nothing else is in it, so ending the cluster may remove it.
CGROUP = "/agentpool-devcluster"

# Every address a daemon listens on; another program that holds one of them keeps the cluster from starting.
LISTENERS = (
    (NODE_ADDRESS, API_PORT),
    (NODE_ADDRESS, 53),
    (NODE_ADDRESS, 10250),
    ("127.0.0.1", ETCD_PORT),
    ("127.0.0.1", ETCD_PEER_PORT),
    ("127.0.0.1", DNS_READY_PORT),
    ("127.0.0.1", 10248),
    ("127.0.0.1", 10249),
    ("127.0.0.1", 10256),
    ("127.0.0.1", 10257),
    ("127.0.0.1", 10259),
)
