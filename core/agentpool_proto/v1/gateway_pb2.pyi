# Generated from proto/agentpool_proto/v1/gateway.proto by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
from agentpool_proto.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PoolRef(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class InvokeRequest(_message.Message):
    __slots__ = ("pool", "tenant_id", "project_id", "tier", "input", "consistency")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    tenant_id: str
    project_id: str
    tier: str
    input: bytes
    consistency: str
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., input: _Optional[bytes] = ..., consistency: _Optional[str] = ...) -> None: ...

class InvokeResponse(_message.Message):
    __slots__ = ("instance_id", "tier", "pod", "output", "timing", "stale", "replayed", "served_by")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    tier: str
    pod: str
    output: bytes
    timing: GatewayTiming
    stale: bool
    replayed: bool
    served_by: str
    def __init__(self, instance_id: _Optional[str] = ..., tier: _Optional[str] = ..., pod: _Optional[str] = ..., output: _Optional[bytes] = ..., timing: _Optional[_Union[GatewayTiming, _Mapping]] = ..., stale: _Optional[bool] = ..., replayed: _Optional[bool] = ..., served_by: _Optional[str] = ...) -> None: ...

class GatewayTiming(_message.Message):
    __slots__ = ("placed_ms", "accepted_ms", "first_event_ms", "done_ms", "host")
    PLACED_MS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVENT_MS_FIELD_NUMBER: _ClassVar[int]
    DONE_MS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    placed_ms: float
    accepted_ms: float
    first_event_ms: float
    done_ms: float
    host: _types_pb2.Timing
    def __init__(self, placed_ms: _Optional[float] = ..., accepted_ms: _Optional[float] = ..., first_event_ms: _Optional[float] = ..., done_ms: _Optional[float] = ..., host: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ...) -> None: ...

class CreateInstanceRequest(_message.Message):
    __slots__ = ("pool", "tenant_id", "project_id", "tier")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    tenant_id: str
    project_id: str
    tier: str
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ...) -> None: ...

class PoolInstanceRequest(_message.Message):
    __slots__ = ("pool", "instance_id")
    POOL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    instance_id: str
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., instance_id: _Optional[str] = ...) -> None: ...

class MoveInstanceRequest(_message.Message):
    __slots__ = ("pool", "instance_id", "tier")
    POOL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    instance_id: str
    tier: str
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., instance_id: _Optional[str] = ..., tier: _Optional[str] = ...) -> None: ...

class ExportPart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportInstanceRequest(_message.Message):
    __slots__ = ("pool", "tenant_id", "project_id", "tier", "replace", "data")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    tenant_id: str
    project_id: str
    tier: str
    replace: bool
    data: bytes
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., replace: _Optional[bool] = ..., data: _Optional[bytes] = ...) -> None: ...

class ForgetTenantRequest(_message.Message):
    __slots__ = ("pool", "tenant_id")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    tenant_id: str
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., tenant_id: _Optional[str] = ...) -> None: ...

class ForgetTenantResponse(_message.Message):
    __slots__ = ("complete", "erased", "remaining", "busy", "declared")
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    erased: int
    remaining: int
    busy: int
    declared: int
    def __init__(self, complete: _Optional[bool] = ..., erased: _Optional[int] = ..., remaining: _Optional[int] = ..., busy: _Optional[int] = ..., declared: _Optional[int] = ...) -> None: ...

class ListInstancesRequest(_message.Message):
    __slots__ = ("pool", "tenant_id", "project_id", "tier", "state", "cursor", "limit")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    tenant_id: str
    project_id: str
    tier: str
    state: str
    cursor: str
    limit: int
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., state: _Optional[str] = ..., cursor: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListInstancesResponse(_message.Message):
    __slots__ = ("instances", "cursor")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_types_pb2.Instance]
    cursor: str
    def __init__(self, instances: _Optional[_Iterable[_Union[_types_pb2.Instance, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ...) -> None: ...

class StatsResponse(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class AcquireRequest(_message.Message):
    __slots__ = ("pool", "tenant_id", "project_id", "tier", "confirm")
    POOL_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    tenant_id: str
    project_id: str
    tier: str
    confirm: bool
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., confirm: _Optional[bool] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("id", "instance_id", "tier", "pod", "address", "incarnation", "token", "expires_at", "seconds_left")
    ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    id: str
    instance_id: str
    tier: str
    pod: str
    address: str
    incarnation: str
    token: str
    expires_at: float
    seconds_left: float
    def __init__(self, id: _Optional[str] = ..., instance_id: _Optional[str] = ..., tier: _Optional[str] = ..., pod: _Optional[str] = ..., address: _Optional[str] = ..., incarnation: _Optional[str] = ..., token: _Optional[str] = ..., expires_at: _Optional[float] = ..., seconds_left: _Optional[float] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("pool", "lease_id", "requests", "failures", "held_seconds")
    POOL_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    HELD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    pool: PoolRef
    lease_id: str
    requests: int
    failures: int
    held_seconds: float
    def __init__(self, pool: _Optional[_Union[PoolRef, _Mapping]] = ..., lease_id: _Optional[str] = ..., requests: _Optional[int] = ..., failures: _Optional[int] = ..., held_seconds: _Optional[float] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("counted",)
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    counted: bool
    def __init__(self, counted: _Optional[bool] = ...) -> None: ...
