# SPDX-License-Identifier: Apache-2.0
"""A line to one host: what it reports, and the configuration it is sent."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio

from agentpool_cli.dev.layout import PodPlace
from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentCreationFailed, AgentPoolError, Unavailable
from agentpool_proto.v1.host_pb2 import ConfigureRequest, HostStatus, WatchRequest
from agentpool_proto.v1.host_pb2_grpc import AgentHostStub
from agentpool_rpc.channels import open_channel
from agentpool_rpc.status import from_rpc_error
from agentpool_rpc.tokens import TokenSigner, Verb

RETRY_SECONDS = 0.05
"""Between two attempts to reach a host that starts: short beside its start of half a second."""
CONFIGURE_SECONDS = 10.0
IMPORT_FAILED = "cannot be imported"
"""What a host says of an agent whose module raises at import."""


class HostLink:
    """Watches one host as long as its task runs.

    Attributes:
        status: the host's last report; None when it is not reached.
    """

    def __init__(self, pod: PodPlace, private_key: bytes) -> None:
        self.pod = pod
        self.status: HostStatus | None = None
        self._signer = TokenSigner(private_key, "agentpool-dev", time.time)
        self._channel = open_channel(pod.address)
        self._stub = AgentHostStub(self._channel)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keep watching until cancelled."""
        try:
            while True:
                try:
                    await self._watch()
                except grpc.aio.AioRpcError:
                    self._report(None)
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._channel.close(grace=None)

    async def wait_ready(self) -> None:
        """Return once the host can take requests; the caller sets the deadline.

        Raises AgentCreationFailed when the agent's code cannot be imported: waiting does not mend that.
        """
        while not (self.status is not None and self.status.ready):
            for problem in self.status.problems if self.status is not None else ():
                if IMPORT_FAILED in problem:
                    raise AgentCreationFailed(
                        problem,
                        remedy="Correct the code or the entrypoint; --app-dir says where the code is.",
                    )
            self._changed.clear()
            await self._changed.wait()

    async def configure(self, config: EffectivePool) -> None:
        """Send a new configuration. Raises the error that the host answers, or Unavailable."""
        if self.status is None:
            raise Unavailable(f"Host {self.pod.name} is not reached.")
        request = ConfigureRequest(generation=config.generation, config=config.model_dump_json().encode())
        metadata = self._metadata(self.status.incarnation, Verb.CONFIGURE)
        try:
            await self._stub.Configure(request, metadata=metadata, timeout=CONFIGURE_SECONDS)
        except grpc.aio.AioRpcError as exc:
            error: AgentPoolError = from_rpc_error(exc) or Unavailable(
                f"Host {self.pod.name} did not take the configuration: {exc.code().name}."
            )
            raise error from exc

    async def _watch(self) -> None:
        call = self._stub.Watch(WatchRequest(), metadata=self._metadata(self.pod.uid, Verb.WATCH))
        async for event in call:
            part: Any = getattr(event, event.WhichOneof("event"))
            if part.HasField("host"):
                self._report(part.host)

    def _report(self, status: HostStatus | None) -> None:
        self.status = status
        self._changed.set()

    def _metadata(self, audience: str, verb: Verb) -> tuple[tuple[str, str], ...]:
        return (("authorization", self._signer.authorization(audience, frozenset({verb}))),)
