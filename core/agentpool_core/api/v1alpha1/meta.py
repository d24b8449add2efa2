# SPDX-License-Identifier: Apache-2.0
"""What all resources share: strict fields, `apiVersion`, `kind`, `metadata`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1.forms import Label

GROUP = "agentpool.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

WRITTEN_BY_THE_SERVER = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    }
)
"""Fields of `metadata` that an exported object carries and that mean nothing here."""


class Part(BaseModel):
    """A part of a manifest: camelCase, frozen, and a field that it does not have is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
    )


class ObjectMeta(Part):
    """Kubernetes' `metadata`, as far as it is used."""

    name: Label = Field(description="Name, unique in its namespace.")
    namespace: Label = Field(default="default", description="Namespace.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations.")
    uid: str = Field(default="", description="Given by the API server; empty in a file.")
    generation: int = Field(default=0, description="Counted by the API server; 0 in a file.")

    @model_validator(mode="before")
    @classmethod
    def _drop_what_the_server_wrote(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if key not in WRITTEN_BY_THE_SERVER}


class Resource(Part):
    """A Kubernetes object of this group. `status` is accepted and left out: it is a report, not a wish."""

    KIND: ClassVar[str]
    STATUS: ClassVar[type[Part]]

    api_version: str = Field(description=f"Always {API_VERSION}.")
    kind: str = Field(description="The kind of the object.")
    metadata: ObjectMeta

    @model_validator(mode="before")
    @classmethod
    def _drop_status(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if key != "status"}

    @model_validator(mode="after")
    def _is_this_kind(self) -> Resource:
        if self.api_version != API_VERSION:
            raise BadValue(
                f"found {self.api_version!r}", remedy=f"Write {API_VERSION}.", path=("apiVersion",)
            )
        if self.kind != self.KIND:
            raise BadValue(f"found {self.kind!r}", remedy=f"Write {self.KIND}.", path=("kind",))
        return self
