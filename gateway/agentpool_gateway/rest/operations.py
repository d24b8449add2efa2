# SPDX-License-Identifier: Apache-2.0
"""The table of REST operations: routes and the API document are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agentpool_core import errors
from agentpool_core.errors import AgentPoolError
from agentpool_gateway.dispatch.stats import PoolHealth, PoolStats
from agentpool_gateway.rest import schemas
from agentpool_gateway.rest.exchange import Exchange
from agentpool_gateway.rest.handlers import Handlers
from agentpool_gateway.settings import PoolVerb

DEFAULT_POOL = "/api/v1/pool"
NAMED_POOL = "/api/v1/namespaces/{namespace}/pools/{pool}"

Handler = Callable[[Handlers, Exchange], Awaitable[None]]
Problems = tuple[type[AgentPoolError], ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header."""

    name: str
    place: str
    text: str
    kind: str = "string"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on a pool; `path` follows the pool's own path."""

    id: str
    method: str
    path: str
    summary: str
    verb: PoolVerb
    handler: Handler
    answer: Any
    status: int = 200
    body: Any = None
    parameters: tuple[Parameter, ...] = ()
    problems: Problems = ()
    media_type: str = "application/json"
    more: str = ""


COMMON: Problems = (
    errors.Unauthenticated,
    errors.PermissionDenied,
    errors.PoolNotFound,
    errors.InvalidRequest,
)
_BODY: Problems = (errors.MalformedRequest, errors.PayloadTooLarge)
_PLACE: Problems = (
    errors.PoolExhausted,
    errors.PoolDisabled,
    errors.NoHost,
    errors.NotOwner,
    errors.Draining,
    errors.NotConfigured,
    errors.StoreUnavailable,
    errors.StoreDataLost,
    errors.AgentCreationFailed,
    errors.AgentCreationTimeout,
    errors.InstanceFailed,
    errors.InstancePaused,
    errors.DeadlineExceeded,
    errors.Unavailable,
)
_SERVE: Problems = (
    errors.InputRejected,
    errors.IdempotencyUnsupported,
    errors.ConcurrencyExceeded,
    errors.RateExceeded,
    errors.ConsistencyUnavailable,
    errors.OwnershipLost,
    errors.InstanceCrashed,
    errors.InstanceRolledBack,
    errors.OutcomeUnknown,
    errors.AgentFailure,
    errors.StateTooLarge,
    errors.AnswerTooLarge,
)
_CHANGE: Problems = (
    errors.InstanceNotFound,
    errors.IllegalTransition,
    errors.InstanceDeclared,
    errors.NoHost,
    errors.NotOwner,
    errors.StoreUnavailable,
    errors.StoreDataLost,
    errors.Unavailable,
    errors.DeadlineExceeded,
)

_INVOKE_TEXT = (
    "The instance of the tenant's project is made if it does not exist. With `Accept: text/event-stream` the "
    "answer is a stream of events `accepted`, `chunk` (JSON, any number), then `done` (the object below) or "
    "`error` (a problem). A second `accepted` means that the request is done again: chunks so far are void."
)
_CONSISTENCY = Parameter(
    "consistency", "query", "`strong` refuses an answer from state that cannot be checked."
)
_TIMEOUT = Parameter(
    "X-Request-Timeout", "header", "Seconds until the caller gives up, at most the pool's limit.", "number"
)
_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "The request takes effect once however often it is sent (10 minutes, last 64).",
)
_FILTERS = (
    Parameter("tenant_id", "query", "Only this tenant's."),
    Parameter("project_id", "query", "Only this project's."),
    Parameter("tier", "query", "Only this tier: HOT, WARM or COLD."),
    Parameter("state", "query", "Only this lifecycle state."),
    Parameter("cursor", "query", "Where to go on: the `cursor` of the page before."),
    Parameter("limit", "query", "How many, 1 to 1000; 100 when not given. A page may hold fewer.", "integer"),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "invoke", "POST", "/invoke", "Send a request to an agent instance", PoolVerb.INVOKE, Handlers.invoke,
        schemas.InvokeAnswer, body=schemas.InvokeBody, parameters=(_CONSISTENCY, _TIMEOUT, _KEY),
        problems=(*_BODY, *_PLACE, *_SERVE), more=_INVOKE_TEXT,
    ),
    Operation(
        "get_stats", "GET", "/stats", "Statistics of the pool", PoolVerb.GET, Handlers.stats, PoolStats,
    ),
    Operation(
        "get_health", "GET", "/health", "Health of the pool", PoolVerb.GET, Handlers.health, PoolHealth,
        more="503 with the same object when no host is ready or the pool is switched off.",
    ),
    Operation(
        "get_metrics", "GET", "/metrics", "Metrics of the pool, Prometheus text format", PoolVerb.GET,
        Handlers.pool_metrics, str, media_type="text/plain",
    ),
    Operation(
        "list_instances", "GET", "/instances", "List instances", PoolVerb.GET, Handlers.list_instances,
        schemas.InstancesView, parameters=_FILTERS, problems=(errors.NoHost, errors.StoreUnavailable),
    ),
    Operation(
        "create_instance", "POST", "/instances", "Make an instance resident", PoolVerb.INVOKE,
        Handlers.create_instance, schemas.InstanceView, 201, schemas.CreateBody, problems=(*_BODY, *_PLACE),
    ),
    Operation(
        "get_instance", "GET", "/instances/{instance_id}", "One instance", PoolVerb.GET,
        Handlers.get_instance, schemas.InstanceView, problems=(errors.InstanceNotFound, errors.NoHost),
    ),
    Operation(
        "terminate_instance", "DELETE", "/instances/{instance_id}", "End an instance and erase its state",
        PoolVerb.TERMINATE, Handlers.terminate_instance, schemas.InstanceView, problems=_CHANGE,
        more="202 when the instance is busy: it ends with its last request.",
    ),
    Operation(
        "pause_instance", "POST", "/instances/{instance_id}/pause", "Pause an instance", PoolVerb.PAUSE,
        Handlers.pause_instance, schemas.InstanceView, problems=_CHANGE,
        more="Its state is kept, its process ends, requests get 409. 202 when it is busy.",
    ),
    Operation(
        "resume_instance", "POST", "/instances/{instance_id}/resume", "Resume a paused instance",
        PoolVerb.PAUSE, Handlers.resume_instance, schemas.InstanceView,
        problems=(*_CHANGE, errors.PoolExhausted),
    ),
)  # fmt: skip
