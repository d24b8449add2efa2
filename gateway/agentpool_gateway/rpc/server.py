# SPDX-License-Identifier: Apache-2.0
"""The gRPC server: service, standard health and reflection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from agentpool_core.shares import Shares
from agentpool_gateway.admission.gate import Gate
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.rpc.shedding import Shedding
from agentpool_gateway.rpc.state import StateService
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from agentpool_rpc.channels import ByName, make_server
from agentpool_rpc.status import ErrorInterceptor
from agentpool_rpc.tracing import Tracing

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["AgentPoolGateway"].full_name
_STATUS = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}


class RpcServer:
    """Serves gRPC on one address.

    Args:
        refused: told the code of each error that a call is answered with.
        imports: bounds the archives that are held in memory at one time.
        max_calls: more at one time are refused, whatever they are. Twice as many are left to gRPC itself,
            which gives no reason: calls whose message has not arrived are among them.
    """

    def __init__(
        self,
        gate: Gate,
        refused: Callable[[str], None],
        imports: Shares,
        overload: Overload,
        max_calls: int,
        tracing: Tracing | None,
    ) -> None:
        errors = ErrorInterceptor(refused)
        shedding = Shedding(overload, SERVICE, refused, lambda: errors.calls >= max_calls)
        self.server = make_server([shedding, errors], 2 * max_calls)
        named: Any = ByName(self.server)
        self._health = HealthServicer()
        service = StateService(gate, imports, overload, tracing)
        gateway_pb2_grpc.add_AgentPoolGatewayServicer_to_server(service, named)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, named)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.server)

    def bind(self, address: str) -> int:
        """Bind the address and give the port; OSError when it is taken."""
        try:
            return self.server.add_insecure_port(address)
        except RuntimeError as exc:
            raise OSError(f"cannot listen on {address}") from exc

    async def show_health(self, serving: bool) -> None:
        """What the standard health service answers."""
        for name in ("", SERVICE):
            await self._health.set(name, _STATUS[serving])

    async def start(self) -> None:
        """Begin to serve."""
        await self.server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let those in flight end, cancel the rest after the grace time."""
        await self.server.stop(grace_seconds)
