# Generated from client/agentpool_client/_async/gateway.py by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
"""Calls of the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentpool_client._sync import runtime
from agentpool_client.address import Address
from agentpool_client.credentials import Credentials
from agentpool_client.errors import Broken, ClientNotOpen
from agentpool_core.errors import Unauthenticated
from agentpool_proto.v1.gateway_pb2_grpc import AgentPoolGatewayStub


class Gateway:
    """One channel to the gateway, and who calls.

    Args:
        root_certificates: PEM, for an address with TLS; None: those of the system.
    """

    def __init__(self, address: Address, credentials: Credentials, root_certificates: bytes | None) -> None:
        self._address = address
        self._credentials = credentials
        self._root_certificates = root_certificates
        self._channel: runtime.Channel | None = None
        self._stub: Any = None

    @property
    def stub(self) -> Any:
        """The generated stub; ClientNotOpen."""
        if self._channel is None:
            raise ClientNotOpen("The client is not open.")
        return self._stub

    def open(self) -> None:
        """Make the channel, and read the token. OSError when its file cannot be read."""
        if self._credentials.due:
            runtime.in_thread(self._credentials.read)
        self._channel = runtime.open_gateway(self._address, self._root_certificates)
        self._stub = AgentPoolGatewayStub(self._channel)

    def close(self) -> None:
        """Close the channel; calls under way end as broken."""
        channel, self._channel = self._channel, None
        if channel is not None:
            runtime.close(channel)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call: the token, read again when it is time."""
        if self._credentials.due:
            runtime.in_thread(self._credentials.read)
        return self._credentials.metadata

    def token_changed(self) -> bool:
        """Whether the token was replaced since it was read: for after one was refused."""
        return runtime.in_thread(self._credentials.read)

    def call(self, method: Callable[[Any], Any], request: object, seconds: float) -> Any:
        """One call with one answer; Broken. A token that was replaced meanwhile is tried once more.

        Args:
            method: picks it from the stub.
        """
        metadata = self.metadata()
        try:
            return runtime.call(method(self.stub), request, metadata, seconds)
        except Broken as exc:
            if not isinstance(exc.error, Unauthenticated) or not self.token_changed():
                raise
        return runtime.call(method(self.stub), request, self._credentials.metadata, seconds)
