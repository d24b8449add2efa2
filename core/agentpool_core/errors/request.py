# SPDX-License-Identifier: Apache-2.0
"""What the caller asked for is wrong, forbidden, absent, in conflict, or over a quota: 4xx."""

from __future__ import annotations

from agentpool_core.errors.base import AgentPoolError


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


class DirectAccessOff(NotAllowed):
    """Applications are to send their requests through the gateway."""

    code = "DirectAccessOff"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    remedy = "Send requests through the gateway, or set directAccess.enabled of the chart."


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


class FlagNotFound(NotFound):
    """The pool has no feature flag of that name."""

    code = "FlagNotFound"
    remedy = "List the pool's flags; set it, or declare it in spec.featureFlags."


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
    remedy = (
        "See the reason; try again later, resume the instance to try at once, or terminate it to start anew."
    )


class InstanceExists(Conflict):
    """State would be overwritten."""

    code = "InstanceExists"
    remedy = "Ask for its replacement, or terminate the instance first."


class PodTaken(Conflict):
    """A generic host already had an instance of its own."""

    code = "PodTaken"
    retryable = True
    remedy = "Another host is tried by the gateway by itself."


class PoolDisabled(Conflict):
    """The project's requests do not go through the pool, so nothing is kept resident for it."""

    code = "PoolDisabled"
    remedy = (
        "Send the request itself, which a one-shot instance serves, or switch agent_pool_enabled on for it."
    )


class TierDisabled(Conflict):
    """A feature flag keeps the project out of the tier."""

    code = "TierDisabled"
    remedy = "Choose another tier, or switch agent_pool_hot_tier on for the tenant or project."


class FlagDeclared(Conflict):
    """The AgentPool declares the feature flag; it is changed there."""

    code = "FlagDeclared"
    remedy = "Change it in spec.featureFlags of the AgentPool with kubectl, or take it out there."


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
