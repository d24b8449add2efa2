# SPDX-License-Identifier: Apache-2.0
"""Objects as the API server holds them: read leniently, for a newer CRD must not stop an older program."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from agentpool_core.api.v1alpha1.meta import Resource
from agentpool_core.errors import InvalidRequest

R = TypeVar("R", bound=Resource)


def read_object(model: type[R], body: Mapping[str, Any]) -> R:
    """The resource in an object of the API server; fields that this version does not know are left out.

    Raises InvalidRequest for anything else that does not fit, with the field and what is wrong.
    """
    plain = {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in body}
    try:
        return model.model_validate(plain, by_name=False)
    except ValidationError as exc:
        unknown = [one["loc"] for one in exc.errors() if one["type"] == "extra_forbidden"]
        if not unknown:
            raise _refusal(exc) from exc
    plain = copy.deepcopy(plain)
    for path in unknown:
        _remove(plain, path)
    try:
        return model.model_validate(plain, by_name=False)
    except ValidationError as exc:
        raise _refusal(exc) from exc


def _remove(body: Any, path: Sequence[int | str]) -> None:
    for step in path[:-1]:
        body = body[step]
    del body[path[-1]]


def _refusal(exc: ValidationError) -> InvalidRequest:
    first = exc.errors(include_url=False)[0]
    field = ".".join(str(step) for step in first["loc"])
    cause = (first.get("ctx") or {}).get("error")
    remedy = getattr(cause, "remedy", "Correct the named field.")
    return InvalidRequest(f"{field}: {cause or first['msg']}.", remedy=remedy, details={"field": field})
