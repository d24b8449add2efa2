# SPDX-License-Identifier: Apache-2.0
"""Every refusal and failure a user can meet, in one table.

Each error has a stable `code`, an HTTP status, the name of a gRPC status, whether the same request may be
sent again, and a remedy. The edges turn it into RFC 9457 problem JSON or a gRPC status with
`google.rpc.ErrorInfo`; nothing else decides on status codes.

    AgentPoolError
    |-- InvalidRequest      malformed, unknown field, too large          4xx, fix the request
    |-- NotAllowed          no identity, no right                        401, 403
    |-- NotFound            pool or instance                             404
    |-- Conflict            the lifecycle forbids it now                 409
    |-- QuotaExceeded       permits or rate                              429, later
    |-- Unavailable         full, draining, store away, owner moved      503, later
    `-- AgentFailure        the agent's own code failed                  502, 504
"""

from __future__ import annotations

from typing import ClassVar

DOMAIN = "agentpool.dev"


class AgentPoolError(Exception):
    """A refusal or failure with a meaning for the caller.

    Attributes:
        code: stable CamelCase reason, the `code` of problem JSON and the `reason` of ErrorInfo.
        http_status: status of the REST answer.
        grpc_status: name of the `grpc.StatusCode`.
        retryable: whether the same request may be sent again unchanged and can succeed.
        remedy: what the caller can do about it, one sentence.
        retry_after_seconds: how long to wait before trying again; None when waiting does not help.
        details: further string facts for the caller (for example the owner of an instance).
    """

    code: ClassVar[str] = "Internal"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = "Report this with the request id; the log of the component has the cause."

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        retry_after_seconds: float | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = remedy if remedy is not None else type(self).remedy
        self.retry_after_seconds = retry_after_seconds
        self.details = details or {}


class InvalidRequest(AgentPoolError):
    """The request itself is wrong; sending it again unchanged fails again."""

    code = "ValidationFailed"
    http_status = 422
    grpc_status = "INVALID_ARGUMENT"
    remedy = "Correct the named field."


class MalformedRequest(InvalidRequest):
    """The body cannot be parsed at all."""

    code = "MalformedRequest"
    http_status = 400
    remedy = "Send one valid JSON object."


class PayloadTooLarge(InvalidRequest):
    """The request body is over the limit."""

    code = "PayloadTooLarge"
    http_status = 413
    remedy = "Send a smaller input; the limit is limits.inputBytes of the pool."


class IdempotencyUnsupported(InvalidRequest):
    """An Idempotency-Key was sent to a pool that cannot keep it."""

    code = "IdempotencyUnsupported"
    remedy = "Use checkpoint.storage Redis with durability Response, or send no Idempotency-Key."


class ConsistencyUnavailable(AgentPoolError):
    """`consistency: strong` was asked for while the store is silent."""

    code = "ConsistencyUnavailable"
    http_status = 503
    grpc_status = "UNAVAILABLE"
    retryable = True
    remedy = "Try again later, or accept an answer marked stale."


class NotAllowed(AgentPoolError):
    """The caller may not do this."""

    code = "NotAllowed"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    remedy = "Use an identity that has the right."


class Unauthenticated(NotAllowed):
    """No token, or one that does not verify."""

    code = "Unauthenticated"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"
    remedy = "Send a valid bearer token of a configured issuer in the authorization header."


class PermissionDenied(NotAllowed):
    """A valid identity without the right."""

    code = "PermissionDenied"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    remedy = "Ask the pool's administrator for the named verb on this pool."


class NotFound(AgentPoolError):
    """Something named does not exist."""

    code = "NotFound"
    http_status = 404
    grpc_status = "NOT_FOUND"


class PoolNotFound(NotFound):
    """No such pool is served here."""

    code = "PoolNotFound"
    remedy = "Check namespace and pool name; the default pool is set by the gateway's default_pool."


class InstanceNotFound(NotFound):
    """No instance with that id."""

    code = "InstanceNotFound"
    remedy = "List the pool's instances; an id follows from tenant and project."


class Conflict(AgentPoolError):
    """The lifecycle forbids it in the present state."""

    code = "Conflict"
    http_status = 409
    grpc_status = "FAILED_PRECONDITION"


class IllegalTransition(Conflict):
    """The lifecycle table has no such edge."""

    code = "IllegalTransition"
    remedy = "Look at the instance's state; the lifecycle table says what is allowed from it."


class InstancePaused(Conflict):
    """A user paused the instance; requests do not wake it."""

    code = "InstancePaused"
    remedy = "Resume the instance first."


class InstanceFailed(Conflict):
    """The instance is in ERROR and is not tried again before its back-off ends."""

    code = "InstanceFailed"
    retryable = True
    remedy = "See the reason; try again later, or terminate the instance to start anew."


class PodTaken(Conflict):
    """A generic host already had an instance of its own."""

    code = "PodTaken"
    retryable = True
    remedy = "Another host is tried by the gateway by itself."


class InstanceDeclared(Conflict):
    """An AgentInstance object declares the instance; its state is changed there."""

    code = "InstanceDeclared"
    remedy = "Set spec.state of its AgentInstance, or delete that, with kubectl."


class QuotaExceeded(AgentPoolError):
    """A quota of the project, tenant or tier is used up."""

    code = "QuotaExceeded"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"
    retryable = True
    remedy = "Wait for Retry-After, or raise the quota of the tier."


class ConcurrencyExceeded(QuotaExceeded):
    """All permits of the instance are taken (quota.concurrentRequests)."""

    code = "ConcurrencyExceeded"


class RateExceeded(QuotaExceeded):
    """The instance's bucket is empty (quota.requestsPerMinute)."""

    code = "RateExceeded"


class Unavailable(AgentPoolError):
    """Not now; the same request can succeed a little later or elsewhere."""

    code = "Unavailable"
    http_status = 503
    grpc_status = "UNAVAILABLE"
    retryable = True
    remedy = "Try again after Retry-After."


class PoolExhausted(Unavailable):
    """No room: host full of busy instances, or a cap on instances is reached."""

    code = "PoolExhausted"
    grpc_status = "RESOURCE_EXHAUSTED"
    remedy = "Try again later, or raise limits.maxInstances, the tier's maxInstances or its replicas."


class PoolDisabled(Unavailable):
    """The pool is switched off."""

    code = "PoolDisabled"
    retryable = False
    remedy = "Set AGENT_POOL_ENABLED to true."


class NoHost(Unavailable):
    """No ready host of the pool takes this tier."""

    code = "NoHost"
    remedy = "Wait until a host is ready; see the pool's health."


class Draining(Unavailable):
    """The host is shutting down and takes no new work."""

    code = "Draining"


class NotConfigured(Unavailable):
    """The host has no configuration of the pool yet."""

    code = "NotConfigured"


class NotOwner(Unavailable):
    """Another incarnation owns the instance. `details["owner"]` names it."""

    code = "NotOwner"

    def __init__(self, owner: str) -> None:
        super().__init__(
            "Another host owns this instance.", retry_after_seconds=0.1, details={"owner": owner}
        )


class OwnershipLost(Unavailable):
    """This host no longer owns the instance; nothing of the request was kept."""

    code = "OwnershipLost"
    remedy = "Try again; the request changed nothing."


class StoreUnavailable(Unavailable):
    """The store does not answer; a change cannot be made durable."""

    code = "StoreUnavailable"
    remedy = "Try again; requests that change nothing are served on meanwhile."


class StoreDataLost(Unavailable):
    """The store lost its data; only holders of instances may register for some seconds."""

    code = "StoreDataLost"


class InstanceCrashed(Unavailable):
    """The worker ended during the request; nothing of the request was kept."""

    code = "InstanceCrashed"
    remedy = "Try again; the instance comes back from its last acknowledged state."


class InstanceRolledBack(Unavailable):
    """Another request of the instance failed after a change; state went back to the last acknowledged."""

    code = "InstanceRolledBack"
    remedy = "Try again; the request changed nothing."


class OutcomeUnknown(AgentPoolError):
    """The connection broke after the request had been accepted; it may or may not have taken effect."""

    code = "OutcomeUnknown"
    http_status = 502
    grpc_status = "UNKNOWN"
    remedy = "Send an Idempotency-Key with requests that change state; such requests are retried for you."


class DeadlineExceeded(AgentPoolError):
    """The request's deadline passed; nothing of the request was kept."""

    code = "DeadlineExceeded"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    retryable = True
    remedy = "Give the request more time, or make it smaller."


class AgentFailure(AgentPoolError):
    """The agent's own code failed."""

    code = "AgentFailed"
    http_status = 502
    grpc_status = "INTERNAL"
    remedy = "See the agent's log; nothing of the request was kept."


class InputRejected(InvalidRequest):
    """The agent refused the input as invalid."""

    code = "InputRejected"
    remedy = "Correct the input as the agent's message says."


class AgentCreationFailed(AgentFailure):
    """The agent's constructor, setup or restore raised."""

    code = "AgentCreationFailed"
    remedy = "See the message; correct the agent's code or config."


class AgentCreationTimeout(AgentFailure):
    """Constructor and setup did not end in time."""

    code = "AgentCreationTimeout"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    retryable = True
    remedy = "Check what setup waits for (tools, connections), or raise limits.creationTimeoutSeconds."


class StateTooLarge(AgentFailure):
    """The agent's state is over limits.stateBytes; the change was not kept."""

    code = "StateTooLarge"
    http_status = 413
    grpc_status = "FAILED_PRECONDITION"
    remedy = "Keep less state, or raise limits.stateBytes."


class AnswerTooLarge(AgentFailure):
    """The answer is over limits.answerBytes; nothing of the request was kept."""

    code = "AnswerTooLarge"
    remedy = "Answer less at once or stream chunks, or raise limits.answerBytes."


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
