# SPDX-License-Identifier: Apache-2.0
"""Feature flags as they go over wires and into the store, and all flags of one pool together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from agentpool_core.api.v1alpha1.forms import FlagName, Identifier, Percentage
from agentpool_core.errors import InvalidRequest
from agentpool_core.flags import (
    HOT_FLAG,
    MAX_FLAGS,
    MAX_LISTED,
    MAX_STEPS,
    POOL_FLAG,
    Flag,
    Plan,
    Schedule,
    Strategy,
    fault,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FlagProject(_Frozen):
    """One project of one tenant."""

    tenant_id: Identifier
    project_id: Identifier


class FlagStep(_Frozen):
    """A percentage that holds from some time after the start."""

    after_seconds: int = Field(ge=0)
    percentage: Percentage


class FlagSchedule(_Frozen):
    """A ramp over `duration_seconds`, or steps; see `agentpool_core.flags.Schedule`."""

    start_time: AwareDatetime
    from_percentage: Percentage | None = None
    to_percentage: Percentage | None = None
    duration_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    steps: Annotated[tuple[FlagStep, ...], Field(max_length=MAX_STEPS)] = ()

    @property
    def plan(self) -> Plan:
        """What is written, in the form in which it is checked."""
        steps = tuple((step.after_seconds, step.percentage) for step in self.steps)
        return Plan(self.from_percentage, self.to_percentage, self.duration_seconds, steps)


class FlagConfig(_Frozen):
    """One flag. Raises InvalidRequest for one that its strategy cannot work with."""

    name: FlagName
    enabled: bool = True
    strategy: Strategy
    percentage: Percentage | None = None
    tenants: Annotated[tuple[Identifier, ...], Field(max_length=MAX_LISTED)] = ()
    projects: Annotated[tuple[FlagProject, ...], Field(max_length=MAX_LISTED)] = ()
    schedule: FlagSchedule | None = None

    @model_validator(mode="after")
    def _has_what_its_strategy_needs(self) -> FlagConfig:
        found = fault(self.strategy, self.percentage, self.schedule.plan if self.schedule else None)
        if found is not None:
            raise InvalidRequest(
                f"{found.field} of the flag {self.name} {found.message}.", remedy=found.remedy
            )
        return self

    def flag(self) -> Flag:
        """The flag, ready to be evaluated."""
        schedule = self.schedule
        return Flag(
            name=self.name,
            enabled=self.enabled,
            strategy=self.strategy,
            percentage=self.percentage or 0,
            tenants=frozenset(self.tenants),
            projects=frozenset((one.tenant_id, one.project_id) for one in self.projects),
            schedule=schedule.plan.schedule(schedule.start_time.timestamp()) if schedule else None,
        )


def written_flag(flag: Flag) -> FlagConfig:
    """How a flag is written. Raises InvalidRequest for one that lists too many, or whose name is none."""
    projects = [FlagProject(tenant_id=one, project_id=other) for one, other in sorted(flag.projects)]
    return read_flag(
        {
            "name": flag.name,
            "enabled": flag.enabled,
            "strategy": flag.strategy,
            "percentage": flag.percentage,
            "tenants": sorted(flag.tenants),
            "projects": projects,
            "schedule": _written(flag.schedule) if flag.schedule is not None else None,
        }
    )


def read_flag(fields: Mapping[str, Any]) -> FlagConfig:
    """A flag from its fields; InvalidRequest names the field that is wrong."""
    try:
        return FlagConfig.model_validate(fields)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        cause = (first.get("ctx") or {}).get("error")
        raise InvalidRequest(
            f"{'.'.join(map(str, first['loc']))} of the flag: {cause or first['msg']}.",
            remedy=getattr(cause, "remedy", "Correct the named field."),
        ) from exc


def _written(schedule: Schedule) -> FlagSchedule:
    start = datetime.fromtimestamp(schedule.start, UTC)
    if not schedule.ramp:
        steps = tuple(FlagStep(after_seconds=int(at), percentage=int(to)) for at, to in schedule.points)
        return FlagSchedule(start_time=start, steps=steps)
    (_, first), (seconds, last) = schedule.points
    return FlagSchedule(
        start_time=start, from_percentage=int(first), to_percentage=int(last), duration_seconds=seconds
    )


_DOCUMENT = TypeAdapter(Annotated[tuple[FlagConfig, ...], Field(max_length=MAX_FLAGS)])


def pack_flags(flags: Mapping[str, Flag]) -> bytes:
    """Flags as the store and the hosts keep them: JSON, by name. Raises InvalidRequest for too many."""
    if len(flags) > MAX_FLAGS:
        raise InvalidRequest(
            f"The pool would have {len(flags)} flags set through the gateway; {MAX_FLAGS} are allowed.",
            remedy="Delete one that is no longer asked for, or declare flags in spec.featureFlags.",
        )
    return _DOCUMENT.dump_json(
        tuple(written_flag(flags[name]) for name in sorted(flags)), exclude_defaults=True
    )


def unpack_flags(body: bytes) -> dict[str, Flag]:
    """Flags of a document; raises ValueError when it is none."""
    return {one.name: one.flag() for one in _DOCUMENT.validate_json(body or b"[]")}


def flags_of_manifest(items: Sequence[Mapping[str, Any]]) -> tuple[FlagConfig, ...]:
    """The effective form of `spec.featureFlags`, which is checked already."""
    return tuple(FlagConfig.model_validate(_renamed(item)) for item in items)


_RENAMED = {
    "tenant": "tenant_id",
    "project": "project_id",
    "startTime": "start_time",
    "fromPercentage": "from_percentage",
    "toPercentage": "to_percentage",
    "durationSeconds": "duration_seconds",
    "afterSeconds": "after_seconds",
}


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_RENAMED.get(name, name): _renamed(part) for name, part in value.items()}
    return [_renamed(part) for part in value] if isinstance(value, list | tuple) else value


class FlagSet:
    """All flags of one pool: those that it declares, and below them those set through the gateway.

    The two flags with an effect on the pool itself are always there. `pool` and `hot` are these two; None
    where one is on for everybody, so that a request of a pool without flags asks for nothing.

    Args:
        enabled: what `agent_pool_enabled` is where no flag says it: AGENT_POOL_ENABLED.
        changed: flags set through the gateway.
    """

    def __init__(
        self,
        declared: Iterable[FlagConfig] = (),
        enabled: bool = True,
        changed: Mapping[str, Flag] | None = None,
    ) -> None:
        self.declared: Mapping[str, Flag] = {one.name: one.flag() for one in declared}
        self.changed: Mapping[str, Flag] = dict(changed or {})
        first = Strategy.ALL if enabled else Strategy.NONE
        defaults = {POOL_FLAG: Flag(POOL_FLAG, enabled, first), HOT_FLAG: Flag(HOT_FLAG, True, Strategy.ALL)}
        self.all: Mapping[str, Flag] = {**defaults, **self.changed, **self.declared}
        self.pool = _gate(self.all[POOL_FLAG])
        self.hot = _gate(self.all[HOT_FLAG])
        self.gates = self.pool is not None or self.hot is not None
        """Whether a request has to be looked at."""

    def origin(self, name: str) -> str:
        """Where a flag comes from: declared, set, or default."""
        return "declared" if name in self.declared else "set" if name in self.changed else "default"

    def pooled(self, tenant_id: str, project_id: str, now: float) -> bool:
        """Whether requests of a project go through the pool."""
        return self.pool is None or self.pool.on(tenant_id, project_id, now)

    def may_be_hot(self, tenant_id: str, project_id: str, now: float) -> bool:
        """Whether something else than a declaration may make a project's instance HOT."""
        return self.hot is None or self.hot.on(tenant_id, project_id, now)


def _gate(flag: Flag) -> Flag | None:
    return None if flag.enabled and flag.strategy is Strategy.ALL else flag
