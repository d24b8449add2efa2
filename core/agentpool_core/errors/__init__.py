# SPDX-License-Identifier: Apache-2.0
"""Every refusal and failure a user can meet, in one table.

Each error has a stable `code`, an HTTP status, the name of a gRPC status, whether the same request may be
sent again, and a remedy. The edges turn it into RFC 9457 problem JSON or a gRPC status with
`google.rpc.ErrorInfo`; nothing else decides on status codes.

    AgentPoolError
    |-- InvalidRequest      malformed, unknown field, too large          4xx, fix the request
    |-- NotAllowed          no identity, no right, switched off          401, 403
    |-- NotFound            pool or instance                             404
    |-- Conflict            the lifecycle forbids it now                 409
    |-- QuotaExceeded       permits or rate                              429, later
    |-- Unavailable         full, draining, store away, owner moved      503, later
    `-- AgentFailure        the agent's own code failed                  502, 504
"""

from __future__ import annotations

from agentpool_core.errors.agent import (
    AgentCreationFailed,
    AgentCreationTimeout,
    AgentFailure,
    AnswerTooLarge,
    DeadlineExceeded,
    InputRejected,
    MemoryExceeded,
    OutcomeUnknown,
    RestoreFailed,
    StateCorrupt,
    StateTooLarge,
)
from agentpool_core.errors.base import (
    DOMAIN,
    OUTCOME,
    UNKNOWN,
    AgentPoolError,
)
from agentpool_core.errors.request import (
    ConcurrencyExceeded,
    Conflict,
    ConsistencyUnavailable,
    DirectAccessOff,
    FlagDeclared,
    FlagNotFound,
    IdempotencyUnsupported,
    IllegalTransition,
    InstanceDeclared,
    InstanceExists,
    InstanceFailed,
    InstanceNotFound,
    InstancePaused,
    InvalidRequest,
    MalformedRequest,
    NotAllowed,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    PodTaken,
    PoolDisabled,
    PoolNotFound,
    QuotaExceeded,
    RateExceeded,
    TierDisabled,
    Unauthenticated,
)
from agentpool_core.errors.unavailable import (
    CircuitOpen,
    Draining,
    HostOverloaded,
    HostTooOld,
    InstanceCrashed,
    InstanceRolledBack,
    NoHost,
    NotConfigured,
    NotOwner,
    NoWorkers,
    Overloaded,
    OwnershipLost,
    PoolExhausted,
    StoreDataLost,
    StoreUnavailable,
    Unavailable,
)

__all__ = [
    "AgentCreationFailed",
    "AgentCreationTimeout",
    "AgentFailure",
    "AgentPoolError",
    "AnswerTooLarge",
    "BY_CODE",
    "CircuitOpen",
    "ConcurrencyExceeded",
    "Conflict",
    "ConsistencyUnavailable",
    "DOMAIN",
    "OUTCOME",
    "UNKNOWN",
    "DeadlineExceeded",
    "DirectAccessOff",
    "Draining",
    "FlagDeclared",
    "FlagNotFound",
    "HostOverloaded",
    "HostTooOld",
    "IdempotencyUnsupported",
    "IllegalTransition",
    "InputRejected",
    "InstanceCrashed",
    "InstanceDeclared",
    "InstanceExists",
    "InstanceFailed",
    "InstanceNotFound",
    "InstancePaused",
    "InstanceRolledBack",
    "InvalidRequest",
    "MalformedRequest",
    "MemoryExceeded",
    "NoHost",
    "NotAllowed",
    "NoWorkers",
    "NotConfigured",
    "NotFound",
    "NotOwner",
    "OutcomeUnknown",
    "Overloaded",
    "OwnershipLost",
    "PayloadTooLarge",
    "PermissionDenied",
    "PodTaken",
    "PoolDisabled",
    "PoolExhausted",
    "PoolNotFound",
    "QuotaExceeded",
    "RateExceeded",
    "RestoreFailed",
    "StateCorrupt",
    "StateTooLarge",
    "StoreDataLost",
    "StoreUnavailable",
    "TierDisabled",
    "Unauthenticated",
    "Unavailable",
    "from_code",
]


def _tree(root: type[AgentPoolError]) -> dict[str, type[AgentPoolError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[AgentPoolError]] = _tree(AgentPoolError)
"""Every error by its code; a code names one class (parents that only group have codes of their own)."""


def from_code(
    code: str,
    message: str,
    *,
    remedy: str | None = None,
    retry_after_seconds: float | None = None,
    details: dict[str, str] | None = None,
) -> AgentPoolError:
    """The error that `code` names, as received over a wire; an unknown code gives the root class."""
    details = dict(details or {})
    cls = BY_CODE.get(code, AgentPoolError)
    if cls is NotOwner:
        return NotOwner(details.get("owner", ""))
    return cls(message, remedy=remedy, retry_after_seconds=retry_after_seconds, details=details)
