# SPDX-License-Identifier: Apache-2.0
"""The audit log: one line for each privileged call, whether it was allowed, refused or failed.

A line says who did what to which pool, tenant and instance, and how it ended. It holds nothing that the
caller sent besides names: no token, no input, no state.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from uuid import uuid4

import structlog

from agentpool_core.errors import AgentPoolError
from agentpool_gateway.admission.identity import Identity
from agentpool_gateway.membership.base import PoolName
from agentpool_proto.v1.types_pb2 import Instance

LOGGER = "audit"
SUCCESS = "Success"
CANCELLED = "Cancelled"
MAX_CHARS = 256
"""Of any one value, so that no caller can write lines without end."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

# Not filtered by level: the audit log has no switch.
_log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=structlog.BoundLogger)


class HungUp(Exception):
    """The caller is gone, or does not read its answer."""


@dataclass(slots=True)
class AuditLine:
    """What is known of one call; as a context manager it writes the line at the end, if it is privileged.

    Attributes:
        request_id: as the caller gave it; the line has one that was made here where that is of no use.
        operation: name of the call, `pause_instance` for one.
        verb: the right that it takes.
        privileged: whether the line is written.
    """

    request_id: str
    operation: str = ""
    verb: str = ""
    privileged: bool = False
    _facts: dict[str, Any] = field(default_factory=dict)

    def caller(self, identity: Identity) -> None:
        """Who calls; not called for a caller whose token is refused."""
        self._facts |= {"issuer": identity.issuer, "subject": identity.subject}

    def pool(self, name: PoolName) -> None:
        """Which pool is meant."""
        self._facts |= {"namespace": name.namespace, "pool": name.name}

    def names(self, **names: str) -> None:
        """What is meant in the pool: tenant, project, instance, tier."""
        self._facts |= {name: value for name, value in names.items() if value}

    def about(self, instance: Instance) -> Instance:
        """The instance as it is after the call, which is given back."""
        self.names(tenant=instance.tenant_id, project=instance.project_id, instance=instance.id)
        self.names(tier=instance.tier, state=instance.state, wish=instance.wish)
        return instance

    def counted(self, **counts: int) -> None:
        """How much was done."""
        self._facts |= counts

    def __enter__(self) -> AuditLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.privileged:
            return
        facts = {
            name: value[:MAX_CHARS] if isinstance(value, str) else value
            for name, value in self._facts.items()
        }
        _log.info(
            "privileged_call",
            logger=LOGGER,
            request_id=request_id(self.request_id),
            operation=self.operation,
            verb=self.verb,
            outcome=outcome(error),
            **facts,
        )


def outcome(error: BaseException | None) -> str:
    """How a call ended, by what it raised: Success, an error's code, or Cancelled."""
    if error is None:
        return SUCCESS
    if isinstance(error, AgentPoolError):
        return error.code
    if isinstance(error, asyncio.CancelledError | GeneratorExit | HungUp):
        return CANCELLED
    return AgentPoolError.code


def request_id(given: str) -> str:
    """The id of a call: what the caller gave, if it is of use, or one made here."""
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
