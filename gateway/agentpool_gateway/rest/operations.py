# SPDX-License-Identifier: Apache-2.0
"""The table of REST operations: routes and the API document are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agentpool_core import errors
from agentpool_core.archive import MEDIA_TYPE
from agentpool_core.errors import AgentPoolError
from agentpool_gateway.dispatch.stats import PoolHealth, PoolStats
from agentpool_gateway.rest import flag_schemas, flags, schemas
from agentpool_gateway.rest.exchange import Exchange
from agentpool_gateway.rest.handlers import Handlers
from agentpool_gateway.settings import PoolVerb

DEFAULT_POOL = "/api/v1/pool"
NAMED_POOL = "/api/v1/namespaces/{namespace}/pools/{pool}"
OFREP = "/ofrep/v1/evaluate/flags"
"""Below a pool's path, and for the default pool at the root as well, where OpenFeature's providers look."""

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
    audited: bool = False
    """Whether every such call goes into the audit log."""
    takes: str = "application/json"
    """Media type of the body."""


COMMON: Problems = (
    errors.Unauthenticated,
    errors.PermissionDenied,
    errors.PoolNotFound,
    errors.InvalidRequest,
)
_BODY: Problems = (errors.MalformedRequest, errors.PayloadTooLarge)
_PLACE: Problems = (
    errors.Overloaded,
    errors.HostOverloaded,
    errors.PoolExhausted,
    errors.PoolDisabled,
    errors.NoHost,
    errors.NotOwner,
    errors.Draining,
    errors.NotConfigured,
    errors.NoWorkers,
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
    errors.CircuitOpen,
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

_SET_FLAG: Problems = (
    *_BODY,
    errors.FlagDeclared,
    errors.NoHost,
    errors.HostTooOld,
    errors.StoreUnavailable,
    errors.Unavailable,
    errors.DeadlineExceeded,
)
_EVERY_TENANT = "Takes the right for every tenant."
_OFREP_TEXT = (
    "The context names the project: `tenant_id` and `project_id`, or `targetingKey` as `tenant/project`. "
    "What is wrong with it, and an unknown flag, is answered in the protocol's form, with 400 and 404."
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
_FORGET_TIMEOUT = Parameter(
    "X-Request-Timeout", "header", "Seconds to wait for busy instances, 60 by default, at most 300.", "number"
)
_IMPORT = (
    Parameter("tenant_id", "query", "Tenant of the instance."),
    Parameter("project_id", "query", "Project of the instance."),
    Parameter("tier", "query", "Tier of an instance that is new: HOT, WARM or COLD."),
    Parameter("replace", "query", "Whether state that is there already is replaced.", "boolean"),
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
        audited=True,
    ),
    Operation(
        "acquire_lease", "POST", "/leases", "Lease an instance, to talk to its host directly",
        PoolVerb.INVOKE, Handlers.acquire_lease, schemas.LeaseView, 201, schemas.AcquireBody, audited=True,
        problems=(errors.DirectAccessOff, *_BODY, *_PLACE),
        more="For applications that reach the hosts. The instance is made resident. The token is good for "
        "this instance at this host (gRPC `agentpool.v1.AgentHost/Invoke`), for a minute. A lease holds "
        "nothing: the host may refuse any request before `accepted`, and then it is time for another lease.",
    ),
    Operation(
        "release_lease", "POST", "/leases/release", "Report what was done with a lease", PoolVerb.INVOKE,
        Handlers.release_lease, schemas.ReleaseView, body=schemas.ReleaseBody,
        problems=(errors.DirectAccessOff, *_BODY),
        more="Goes into the pool's metrics. A lease that is never reported just ends.",
    ),
    Operation(
        "get_instance", "GET", "/instances/{instance_id}", "One instance", PoolVerb.GET,
        Handlers.get_instance, schemas.InstanceView, problems=(errors.InstanceNotFound, errors.NoHost),
    ),
    Operation(
        "terminate_instance", "DELETE", "/instances/{instance_id}", "End an instance and erase its state",
        PoolVerb.TERMINATE, Handlers.terminate_instance, schemas.InstanceView, problems=_CHANGE,
        more="202 when the instance is busy: it ends with its last request.", audited=True,
    ),
    Operation(
        "pause_instance", "POST", "/instances/{instance_id}/pause", "Pause an instance", PoolVerb.PAUSE,
        Handlers.pause_instance, schemas.InstanceView, problems=_CHANGE,
        more="Its state is kept, its process ends, requests get 409. 202 when it is busy.", audited=True,
    ),
    Operation(
        "resume_instance", "POST", "/instances/{instance_id}/resume", "Resume an instance",
        PoolVerb.PAUSE, Handlers.resume_instance, schemas.InstanceView,
        problems=(*_CHANGE, errors.PoolExhausted, errors.InstanceFailed), audited=True,
        more="One that is PAUSED wakes; one in ERROR is tried again at once, however often it has failed.",
    ),
    Operation(
        "move_instance", "PUT", "/instances/{instance_id}/tier", "Give an instance another tier",
        PoolVerb.PLACE, Handlers.move_instance, schemas.InstanceView, body=schemas.MoveBody, audited=True,
        problems=(*_BODY, *_CHANGE, errors.PoolExhausted, errors.PoolDisabled, errors.HostTooOld),
        more="State and requests go with it. It keeps the tier until it is given another one, or AUTO. "
        "202 when it is busy: it moves with its last request.",
    ),
    Operation(
        "export_instance", "GET", "/instances/{instance_id}/checkpoint", "The saved state of an instance",
        PoolVerb.EXPORT, Handlers.export_instance, bytes, media_type=MEDIA_TYPE, audited=True,
        problems=(
            errors.InstanceNotFound, errors.StateCorrupt, errors.StateTooLarge, errors.NoHost,
            errors.NotOwner, errors.StoreUnavailable, errors.StoreDataLost, errors.Unavailable,
            errors.DeadlineExceeded, errors.HostTooOld,
        ),
        more="An archive that `PUT .../checkpoints` takes. Whatever the instance has answered is in it.",
    ),
    Operation(
        "import_instance", "PUT", "/checkpoints", "Make an instance from a saved state", PoolVerb.IMPORT,
        Handlers.import_instance, schemas.InstanceView, 201, bytes, parameters=_IMPORT, takes=MEDIA_TYPE,
        audited=True,
        problems=(
            *_BODY, errors.InstanceExists, errors.InstanceDeclared, errors.PoolDisabled, errors.NoHost,
            errors.NotOwner, errors.StoreUnavailable, errors.StoreDataLost, errors.OutcomeUnknown,
            errors.Unavailable, errors.DeadlineExceeded, errors.HostTooOld,
        ),
        more="The body is an archive. Its first request wakes the instance. With a tier, also the verb "
        "`place` is needed.",
    ),
    Operation(
        "forget_tenant", "DELETE", "/tenants/{tenant_id}", "Erase everything of a tenant", PoolVerb.FORGET,
        Handlers.forget_tenant, schemas.ForgottenView, parameters=(_FORGET_TIMEOUT,), audited=True,
        problems=(errors.NoHost, errors.StoreUnavailable, errors.StoreDataLost, errors.Unavailable),
        more="Every instance ends, in whatever state it is. 202 when some are left: ask again. Those that "
        "an AgentInstance declares are listed and stay until it is deleted.",
    ),
    Operation(
        "list_flags", "GET", "/flags", "Feature flags of the pool", PoolVerb.GET, flags.list_flags,
        flag_schemas.FlagsView, more=_EVERY_TENANT,
    ),
    Operation(
        "get_flag", "GET", "/flags/{flag}", "One feature flag", PoolVerb.GET, flags.get_flag,
        flag_schemas.FlagView, problems=(errors.FlagNotFound,), more=_EVERY_TENANT,
    ),
    Operation(
        "put_flag", "PUT", "/flags/{flag}", "Set a feature flag", PoolVerb.CONFIGURE, flags.put_flag,
        flag_schemas.FlagView, body=flag_schemas.FlagBody, problems=_SET_FLAG, audited=True,
        more=f"It holds at once. {_EVERY_TENANT}",
    ),
    Operation(
        "change_flag", "PATCH", "/flags/{flag}", "Change one thing of a feature flag", PoolVerb.CONFIGURE,
        flags.change_flag, flag_schemas.FlagView, body=flag_schemas.FlagChangeBody, problems=_SET_FLAG,
        more=f"A flag that does not exist is made. {_EVERY_TENANT}", audited=True,
    ),
    Operation(
        "delete_flag", "DELETE", "/flags/{flag}", "Forget a feature flag that was set", PoolVerb.CONFIGURE,
        flags.delete_flag, None, 204, problems=(*_SET_FLAG, errors.FlagNotFound), audited=True,
        more=f"One that has an effect on the pool goes back to its default. {_EVERY_TENANT}",
    ),
    Operation(
        "evaluate_flag", "POST", f"{OFREP}/{{flag}}", "Evaluate a flag for a project (OpenFeature, OFREP)",
        PoolVerb.GET, flags.evaluate_flag, flag_schemas.Evaluation, body=flag_schemas.EvaluationBody,
        more=_OFREP_TEXT,
    ),
    Operation(
        "evaluate_flags", "POST", OFREP, "Evaluate all flags for a project (OpenFeature, OFREP)",
        PoolVerb.GET, flags.evaluate_flags, flag_schemas.Evaluations, body=flag_schemas.EvaluationBody,
        more=f"{_OFREP_TEXT} 304 when the values are those of the `If-None-Match` header.",
    ),
)  # fmt: skip


def placed() -> Iterator[tuple[str, str, Operation]]:
    """Every operation where it is served: the path before its own, what its id ends with, itself."""
    for prefix, suffix in ((DEFAULT_POOL, ""), (NAMED_POOL, "_of_pool")):
        for one in OPERATIONS:
            yield prefix, suffix, one
    for one in OPERATIONS:
        if one.path.startswith(OFREP):
            yield "", "_at_root", one
