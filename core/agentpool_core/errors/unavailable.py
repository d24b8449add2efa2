# SPDX-License-Identifier: Apache-2.0
"""Not now, or not here: 503; the same request can succeed later."""

from __future__ import annotations

from agentpool_core.errors.base import AgentPoolError


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


class CircuitOpen(Unavailable):
    """The instance failed several times in a row; requests are refused until it has had time to mend."""

    code = "CircuitOpen"
    remedy = (
        "Try again after Retry-After. If it opens again and again, what the agent calls fails: check that "
        "its model provider can be reached, or raise limits.requestTimeoutSeconds."
    )


class Overloaded(Unavailable):
    """The gateway has more to do than it can do in time; nothing of the request was looked at."""

    code = "Overloaded"
    remedy = "Try again after Retry-After, send less at once, or run more gateways."


class HostOverloaded(Unavailable):
    """The agents of the instance's host have more to compute than its cores can do in time."""

    code = "HostOverloaded"
    remedy = "Try again after Retry-After, send less at once, or give the tier more CPU or replicas."


class NoHost(Unavailable):
    """No ready host of the pool takes this tier."""

    code = "NoHost"
    remedy = "Wait until a host is ready; see the pool's health."


class Draining(Unavailable):
    """The host is shutting down and takes no new work."""

    code = "Draining"


class NoWorkers(Unavailable):
    """The process that makes the host's workers is gone; instances can start on other hosts."""

    code = "NoWorkers"


class NotConfigured(Unavailable):
    """The host has no configuration of the pool yet."""

    code = "NotConfigured"


class HostTooOld(Unavailable):
    """The host runs an agent image that does not know this operation."""

    code = "HostTooOld"
    remedy = "Try again when the pool's pods run the agent image of this release; a rolling update does that."


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

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        retry_after_seconds: float | None = None,
        details: dict[str, str] | None = None,
        unheard: bool = False,
    ) -> None:
        """`unheard`: the call was sent and not answered, so it may have been carried out."""
        super().__init__(message, remedy=remedy, retry_after_seconds=retry_after_seconds, details=details)
        self.unheard = unheard


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
