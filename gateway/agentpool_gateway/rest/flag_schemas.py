# SPDX-License-Identifier: Apache-2.0
"""Feature flags as they go over REST, and OFREP, the remote evaluation protocol of OpenFeature."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from agentpool_core.config import FlagConfig, FlagSchedule, FlagSet, read_flag, written_flag
from agentpool_core.errors import InvalidRequest
from agentpool_core.flags import (
    MAX_LISTED,
    MAX_STEPS,
    Flag,
    Flags,
    Reason,
    Strategy,
    enable_for_tenant,
    roll_back,
    set_flag,
    set_percentage,
)
from agentpool_core.names import MAX_NAME_CHARS

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[^\x00-\x1f\x7f]+$")]
Percentage = Annotated[int, msgspec.Meta(ge=0, le=100)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class FlagProject(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One project of one tenant."""

    tenant_id: Name
    project_id: Name


class FlagStep(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A percentage that holds from so many seconds after the start."""

    after_seconds: Annotated[int, msgspec.Meta(ge=0)]
    percentage: Percentage


class FlagScheduleBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """How the percentage of a GRADUAL flag grows: evenly from one percentage to another (0 and 100 when not
    given) over `duration_seconds`, or by `steps`. `start_time` is now when it is not given."""

    start_time: Moment | None = None
    from_percentage: Percentage | None = None
    to_percentage: Percentage | None = None
    duration_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    steps: Annotated[list[FlagStep], msgspec.Meta(max_length=MAX_STEPS)] = []


class FlagBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A feature flag. `tenants` and `projects` are on under ALLOWLIST, PERCENTAGE and GRADUAL, and off under
    DENYLIST."""

    strategy: Strategy
    enabled: bool = True
    percentage: Percentage | None = None
    tenants: Annotated[list[Name], msgspec.Meta(max_length=MAX_LISTED)] = []
    projects: Annotated[list[FlagProject], msgspec.Meta(max_length=MAX_LISTED)] = []
    schedule: FlagScheduleBody | None = None


class FlagChangeBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One change of a flag, also of one that there is not. `percentage`: enabled for so many percent, and for
    whom its allow list names. `enable_for_tenant`: on for this tenant, and as before for others. `roll_back`:
    off for everybody."""

    percentage: Percentage | None = None
    enable_for_tenant: Name | None = None
    roll_back: Literal[True] | None = None


class FlagView(msgspec.Struct, frozen=True):
    """A feature flag. `origin`: declared in the pool, which rules; set through the gateway; or default.
    `reached`: the percentage of projects that it is on for now, the listed ones apart."""

    name: str
    origin: str
    enabled: bool
    strategy: str
    percentage: int
    reached: float
    tenants: list[str]
    projects: list[FlagProject]
    schedule: FlagScheduleBody | None


class FlagsView(msgspec.Struct, frozen=True):
    """All flags of a pool, by name. `version` grows with each change through a gateway; 0: none was made."""

    version: int
    flags: list[FlagView]


class EvaluationBody(msgspec.Struct, frozen=True):
    """For whom to evaluate: `tenant_id` and `project_id`, or the targetingKey `tenant/project`."""

    context: dict[str, Any] = {}


class Evaluation(msgspec.Struct, frozen=True):
    """A flag's value for a project."""

    key: str
    value: bool
    reason: str
    variant: str
    metadata: dict[str, str]


class Evaluations(msgspec.Struct, frozen=True):
    """The values of all flags for a project."""

    flags: list[Evaluation]


class EvaluationFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a flag cannot be evaluated, in the protocol's own names."""

    errorCode: str  # the protocol's name
    errorDetails: str  # the protocol's name
    key: str | None = None


FLAG_SCHEMAS: tuple[type[msgspec.Struct], ...] = (
    FlagBody,
    FlagChangeBody,
    FlagView,
    FlagsView,
    EvaluationBody,
    Evaluation,
    Evaluations,
)


def flag_of(name: str, body: FlagBody, now: datetime) -> Flag:
    """The flag that a body describes; InvalidRequest."""
    fields: dict[str, Any] = {"name": name, **msgspec.to_builtins(body)}
    if body.schedule is not None and body.schedule.start_time is None:
        fields["schedule"]["start_time"] = now
    return read_flag(fields).flag()


def change_of(name: str, body: FlagChangeBody) -> Callable[[Flags], Flags]:
    """The change that a body asks for; InvalidRequest unless it is one."""
    asked = [one for one in (body.percentage, body.enable_for_tenant, body.roll_back) if one is not None]
    if len(asked) != 1:
        raise InvalidRequest(
            f"The body asks for {len(asked)} changes.",
            remedy="Give one of percentage, enable_for_tenant and roll_back, or PUT the whole flag.",
        )
    if body.percentage is not None:
        percentage = body.percentage
        return lambda flags: set_percentage(flags, name, percentage)
    if body.enable_for_tenant is not None:
        tenant_id = body.enable_for_tenant
        return lambda flags: enable_for_tenant(flags, name, tenant_id)
    return lambda flags: roll_back(flags, name)


def replaced_by(flag: Flag) -> Callable[[Flags], Flags]:
    """The change that sets a flag."""
    return lambda flags: set_flag(flags, flag)


def flag_view(flags: FlagSet, flag: Flag, now: float) -> FlagView:
    """A flag as REST shows it."""
    written: FlagConfig = written_flag(flag)
    return FlagView(
        name=flag.name,
        origin=flags.origin(flag.name),
        enabled=flag.enabled,
        strategy=flag.strategy.value,
        percentage=flag.percentage,
        reached=round(flag.reached(now), 3),
        tenants=list(written.tenants),
        projects=[FlagProject(one.tenant_id, one.project_id) for one in written.projects],
        schedule=_schedule(written.schedule) if written.schedule is not None else None,
    )


def _schedule(one: FlagSchedule) -> FlagScheduleBody:
    return FlagScheduleBody(
        start_time=one.start_time.astimezone(UTC),
        from_percentage=one.from_percentage,
        to_percentage=one.to_percentage,
        duration_seconds=one.duration_seconds,
        steps=[FlagStep(step.after_seconds, step.percentage) for step in one.steps],
    )


def evaluation(flags: FlagSet, flag: Flag, tenant_id: str, project_id: str, now: float) -> Evaluation:
    """A flag's value for a project, in the words of OpenFeature."""
    on, reason = flag.evaluate(tenant_id, project_id, now)
    if flags.origin(flag.name) == "default":
        reason = Reason.DEFAULT
    return Evaluation(
        key=flag.name,
        value=on,
        reason=reason.value,
        variant="on" if on else "off",
        metadata={"strategy": flag.strategy.value, "origin": flags.origin(flag.name)},
    )
