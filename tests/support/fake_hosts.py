# SPDX-License-Identifier: Apache-2.0
"""Hosts that the operator can configure and retire, and a node that runs one for each pod of an API server.

Pods are simulated: no kubelet, no scheduler, no controller manager. The node below does as much of their work
as the operator can notice.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from agentpool_core.cluster import LABEL_ROLE, ROLE_WARM
from agentpool_core.config import EffectivePool
from agentpool_core.errors import Conflict, InstanceNotFound, NotOwner
from agentpool_core.names import Incarnation
from agentpool_operator.kube.kinds import DEPLOYMENTS, PODS, KubeError, Object
from agentpool_operator.plan.views import PodView
from agentpool_proto.v1 import host_pb2, types_pb2
from agentpool_rpc.tokens import TokenVerifier, Verb
from support.fake_deployments import DeploymentController
from support.fake_host import Context, FakeHost, Ownership

POLL_SECONDS = 0.05


class PodHost(FakeHost):
    """A stand-in for the host of a pod: not ready until it is configured.

    Attributes:
        configured: configurations that came in, in order.
        refuse_retire: say that an instance is here, whatever is.
    """

    def __init__(
        self, pool: EffectivePool, verifier: TokenVerifier, body: Object, store: Ownership | None = None
    ) -> None:
        warm = body["metadata"]["labels"][LABEL_ROLE] == ROLE_WARM
        super().__init__(
            pool,
            verifier,
            pod=body["metadata"]["name"],
            store=store,
            role="Shared" if warm else "Generic",
            tiers=("WARM",) if warm else ("HOT", "COLD"),
        )
        self.incarnation = Incarnation.draw(body["metadata"]["uid"], time.time_ns(), b"rand")
        self.status.incarnation = str(self.incarnation)
        self.status.ready = False
        self.configured: list[EffectivePool] = []
        self.refuse_retire = False
        self.activated: list[host_pb2.ActivateRequest] = []
        self.moves: list[host_pb2.MoveRequest] = []

    async def Configure(
        self, request: host_pb2.ConfigureRequest, context: Context
    ) -> host_pb2.ConfigureResponse:
        """Take it on, and be ready."""
        self._check(context, Verb.CONFIGURE)
        self.configured.append(EffectivePool.model_validate_json(request.config))
        self.report_status(ready=True, configured_generation=request.generation)
        return host_pb2.ConfigureResponse(generation=request.generation)

    async def Retire(self, request: host_pb2.RetireRequest, context: Context) -> host_pb2.RetireResponse:
        """Agree when nothing is here."""
        self._check(context, Verb.RETIRE)
        if self.instances or self.refuse_retire:
            raise Conflict("Something is resident here.")
        self.report_status(draining=True, ready=False)
        return host_pb2.RetireResponse(retired=True)

    async def Activate(self, request: host_pb2.ActivateRequest, context: Context) -> types_pb2.Instance:
        """Hold it, and remember who declared it."""
        self.activated.append(request)
        one = await super().Activate(request, context)
        one.declared_uid = request.declared_uid
        one.origin = "declared" if request.declared_uid else "observed"
        self.keep(one)
        return one

    async def Pause(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """Let go of it, and know that a user paused it."""
        one = await super().Pause(request, context)
        one.reason = "UserRequested"
        self.leave(request.instance_id, one)
        return one

    async def Resume(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """Hold it again."""
        self._check(context, Verb.RESUME)
        stored = self.store.shelf.pop(request.instance_id, None)
        if stored is None:
            raise InstanceNotFound(f"no {request.instance_id}")
        return self.hold(stored.tenant_id, stored.project_id, stored.tier)

    async def Terminate(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """Erase it, wherever it was."""
        self._check(context, Verb.TERMINATE)
        stored = self.store.shelf.pop(request.instance_id, None)
        one = self.instances.get(request.instance_id) or stored
        if one is None:
            raise InstanceNotFound(f"no {request.instance_id}")
        self.drop(request.instance_id)
        one.state = "TERMINATED"
        return one

    async def Move(self, request: host_pb2.MoveRequest, context: Context) -> types_pb2.Instance:
        """Another tier, here if this host takes it; and who declares it."""
        self._check(context, Verb.MOVE)
        here = self.instances.get(request.instance_id)
        one = here or self.known().get(request.instance_id)
        if one is None:
            raise InstanceNotFound(f"no {request.instance_id}")
        if here is None and request.instance_id in self.store.owners:
            raise NotOwner(str(self.store.owners[request.instance_id]))
        self.moves.append(request)
        if request.elsewhere:
            if here is not None:
                self.leave(one.id)
            return one
        if request.declared_uid:
            one.declared_uid, one.origin = request.declared_uid, "declared"
        moves = bool(request.tier) and request.tier != one.tier
        one.tier = request.tier or one.tier
        if here is not None and moves and request.tier not in self.status.tiers:
            self.leave(one.id)
        elif here is not None:
            self.keep(one)
        else:
            self.store.shelf[one.id] = one
        return one

    async def Get(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """From here, from the shelf that all hosts share, or as another host's."""
        self._check(context, Verb.GET)
        found = self.instances.get(request.instance_id) or self.known().get(request.instance_id)
        if found is None:
            raise InstanceNotFound(f"no {request.instance_id}")
        return found

    async def List(self, request: host_pb2.ListRequest, context: Context) -> host_pb2.ListResponse:
        """Everything that the store knows, in one page."""
        self._check(context, Verb.GET)
        return host_pb2.ListResponse(instances=self.known().values())

    def known(self) -> dict[str, types_pb2.Instance]:
        """What the store knows: an owner is named until it releases, alive or not."""
        store = self.store
        held = {id_: _owned(store.records[id_]) for id_ in store.owners if id_ in store.records}
        return {**held, **store.shelf}

    def hold(
        self, tenant_id: str, project_id: str, tier: str = "WARM", state: str = "READY"
    ) -> types_pb2.Instance:
        """Have an instance, and have the store know it."""
        self.store.shelf.pop(self.key_id(tenant_id, project_id), None)
        one = super().hold(tenant_id, project_id, tier, state)
        self.store.records[one.id] = one
        return one

    def keep(self, one: types_pb2.Instance) -> None:
        """Tell the watchers of an instance that looks different."""
        self.instances[one.id] = one
        self.report(host_pb2.WatchDelta(changed=[one]))

    def arrive(self, tenant: str, project: str, tier: str = "COLD") -> types_pb2.Instance:
        """An instance moves in, as a request makes it do."""
        self.status.counters.created += 1
        return self.hold(tenant, project, tier)

    def bear(self, **load: Any) -> None:
        """Say what it bears; see HostLoad."""
        self.status.load.CopyFrom(host_pb2.HostLoad(**load))
        self.report_status()

    def leave(self, instance_id: str, paused: types_pb2.Instance | None = None) -> None:
        """An instance is evicted: its state goes to the shelf."""
        one = paused or self.instances[instance_id]
        one.state, one.pod, one.epoch = "PAUSED", "", 0
        one.reason = one.reason or "Evicted"
        self.store.shelf[instance_id] = one
        self.drop(instance_id)


def _owned(one: types_pb2.Instance) -> types_pb2.Instance:
    """What the store can tell of an instance that somebody holds: not how it is, nor where."""
    told = types_pb2.Instance()
    told.CopyFrom(one)
    told.state, told.reason, told.pod = "READY", "", ""
    return told


class SimulatedNode:
    """Runs a `PodHost` for each agent pod, and the shared pods of Deployments.

    Args:
        client: of the API server, unguarded.
        verifier: of call tokens; asked for when the first pod starts.
        broken: images whose pods never start.
        namespace: of the pods.
    """

    def __init__(
        self,
        client: Any,
        pool: EffectivePool,
        verifier: Any,
        broken: frozenset[str],
        namespace: str = "default",
    ) -> None:
        self._client = client
        self._namespace = namespace
        self.deployments = DeploymentController(client, namespace)
        self._pool = pool
        self._verifier = verifier
        self._broken = broken
        self.store = Ownership()
        self.hosts: dict[str, PodHost] = {}
        self.most: dict[str, int] = {}
        """Most pods of each role at any one look."""

    def address(self, pod: PodView) -> str:
        """Where a pod's host listens."""
        host = self.hosts.get(pod.uid)
        return host.address if host is not None else "127.0.0.1:1"

    def named(self, name: str) -> PodHost:
        """The host of a pod by name."""
        return next(host for host in self.hosts.values() if host.pod == name)

    def store_of(self, body: Object) -> Ownership:
        """The store that the hosts of a pod's pool share."""
        return self.store

    async def run(self) -> None:
        """Look after pods for ever."""
        while True:
            try:
                await self.look()
            except KubeError:
                # An object changed between two calls: the next look sees it as it is.
                await asyncio.sleep(POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """One look at everything."""
        pods = await self._client.list(PODS, self._namespace)
        for deployment in await self._client.list(DEPLOYMENTS, self._namespace):
            await self.deployments.replicate(deployment, pods, list(self.hosts))
        roles: dict[str, int] = {}
        for body in pods:
            role = body["metadata"]["labels"][LABEL_ROLE]
            roles[role] = roles.get(role, 0) + 1
            await self._start(body)
        for role, count in roles.items():
            self.most[role] = max(self.most.get(role, 0), count)
        present = {body["metadata"]["uid"] for body in pods}
        for uid in [uid for uid in self.hosts if uid not in present]:
            await self.hosts.pop(uid).stop()

    async def _start(self, body: Object) -> None:
        metadata, image = body["metadata"], body["spec"]["containers"][0]["image"]
        if metadata["uid"] in self.hosts or body.get("status", {}).get("podIP"):
            return
        if image in self._broken:
            if not body["status"].get("containerStatuses"):
                await self._status(metadata["name"], waiting(image))
            return
        host = PodHost(self._pool, self._verifier(), body, self.store_of(body))
        await host.start()
        self.hosts[metadata["uid"]] = host
        await self._status(metadata["name"], running(image))

    async def _status(self, name: str, status: Object) -> None:
        await self._client.merge(PODS, self._namespace, name, {"status": status}, "status")

    async def fail(
        self, name: str, code: int = 1, message: str = "it broke", ran_seconds: float = 600
    ) -> None:
        """A pod ends by itself."""
        host = self.named(name)
        await host.stop()
        ended = {"exitCode": code, "message": message, "reason": "Error"}
        began, now = (
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago)) for ago in (ran_seconds, 0)
        )
        state = {"terminated": {**ended, "startedAt": began, "finishedAt": now}}
        containers = [_container("workers", "image", state), _container("host", "image", state)]
        await self._status(name, {"phase": "Failed", "podIP": None, "containerStatuses": containers})

    async def close(self) -> None:
        """End all hosts."""
        for host in self.hosts.values():
            await host.stop()


def _container(name: str, image: str, state: Object, ready: bool = False) -> Object:
    return {
        "name": name,
        "image": image,
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }


def running(image: str) -> Object:
    """The status of a pod that runs and is ready."""
    state: Object = {"running": {}}
    return {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [_container(name, image, state, True) for name in ("host", "workers")],
    }


def waiting(image: str) -> Object:
    """The status of a pod whose image is not to be had."""
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    return {
        "phase": "Pending",
        "containerStatuses": [_container(name, image, state) for name in ("host", "workers")],
    }
