# Generated from proto/agentpool_proto/v1/host.proto by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
from agentpool_proto.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostInvokeRequest(_message.Message):
    __slots__ = ("tenant_id", "project_id", "tier", "input", "idempotency_key", "strong", "one_shot")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    STRONG_FIELD_NUMBER: _ClassVar[int]
    ONE_SHOT_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    project_id: str
    tier: str
    input: bytes
    idempotency_key: str
    strong: bool
    one_shot: bool
    def __init__(self, tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., input: _Optional[bytes] = ..., idempotency_key: _Optional[str] = ..., strong: _Optional[bool] = ..., one_shot: _Optional[bool] = ...) -> None: ...

class HostInvokeResponse(_message.Message):
    __slots__ = ("accepted", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: _types_pb2.Accepted
    done: _types_pb2.Done
    def __init__(self, accepted: _Optional[_Union[_types_pb2.Accepted, _Mapping]] = ..., done: _Optional[_Union[_types_pb2.Done, _Mapping]] = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("tenant_id", "project_id", "tier", "declared_uid")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    DECLARED_UID_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    project_id: str
    tier: str
    declared_uid: str
    def __init__(self, tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., declared_uid: _Optional[str] = ...) -> None: ...

class InstanceRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class MoveRequest(_message.Message):
    __slots__ = ("instance_id", "tier", "declared_uid", "pinned", "elsewhere")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    DECLARED_UID_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    tier: str
    declared_uid: str
    pinned: bool
    elsewhere: bool
    def __init__(self, instance_id: _Optional[str] = ..., tier: _Optional[str] = ..., declared_uid: _Optional[str] = ..., pinned: _Optional[bool] = ..., elsewhere: _Optional[bool] = ...) -> None: ...

class ArchiveChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("target", "data")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    target: ImportTarget
    data: bytes
    def __init__(self, target: _Optional[_Union[ImportTarget, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportTarget(_message.Message):
    __slots__ = ("tenant_id", "project_id", "tier", "replace")
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    project_id: str
    tier: str
    replace: bool
    def __init__(self, tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., replace: _Optional[bool] = ...) -> None: ...

class RetireRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetireResponse(_message.Message):
    __slots__ = ("retired",)
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    retired: bool
    def __init__(self, retired: _Optional[bool] = ...) -> None: ...

class ConfigureRequest(_message.Message):
    __slots__ = ("generation", "config")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    generation: int
    config: bytes
    def __init__(self, generation: _Optional[int] = ..., config: _Optional[bytes] = ...) -> None: ...

class ConfigureResponse(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: int
    def __init__(self, generation: _Optional[int] = ...) -> None: ...

class FeatureFlags(_message.Message):
    __slots__ = ("version", "document")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    version: int
    document: bytes
    def __init__(self, version: _Optional[int] = ..., document: _Optional[bytes] = ...) -> None: ...

class SetFlagsRequest(_message.Message):
    __slots__ = ("base", "document")
    BASE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    base: FeatureFlags
    document: bytes
    def __init__(self, base: _Optional[_Union[FeatureFlags, _Mapping]] = ..., document: _Optional[bytes] = ...) -> None: ...

class SetFlagsResponse(_message.Message):
    __slots__ = ("flags", "done")
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    flags: FeatureFlags
    done: bool
    def __init__(self, flags: _Optional[_Union[FeatureFlags, _Mapping]] = ..., done: _Optional[bool] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("sequence", "snapshot", "delta", "sent_at")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    snapshot: WatchSnapshot
    delta: WatchDelta
    sent_at: float
    def __init__(self, sequence: _Optional[int] = ..., snapshot: _Optional[_Union[WatchSnapshot, _Mapping]] = ..., delta: _Optional[_Union[WatchDelta, _Mapping]] = ..., sent_at: _Optional[float] = ...) -> None: ...

class HostStatus(_message.Message):
    __slots__ = ("incarnation", "pod", "role", "tiers", "ready", "draining", "configured_generation", "capacity", "resident", "spares", "active_requests", "problems", "isolation", "isolation_missing", "store_silent", "counters", "protocol", "reserved_for", "awaited", "queued", "capabilities", "load", "flags")
    class IsolationMissingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    SPARES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_MISSING_FIELD_NUMBER: _ClassVar[int]
    STORE_SILENT_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FOR_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    pod: str
    role: str
    tiers: _containers.RepeatedScalarFieldContainer[str]
    ready: bool
    draining: bool
    configured_generation: int
    capacity: int
    resident: int
    spares: int
    active_requests: int
    problems: _containers.RepeatedScalarFieldContainer[str]
    isolation: _containers.RepeatedScalarFieldContainer[str]
    isolation_missing: _containers.ScalarMap[str, str]
    store_silent: bool
    counters: HostCounters
    protocol: int
    reserved_for: str
    awaited: _containers.RepeatedCompositeFieldContainer[Awaited]
    queued: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    load: HostLoad
    flags: FeatureFlags
    def __init__(self, incarnation: _Optional[str] = ..., pod: _Optional[str] = ..., role: _Optional[str] = ..., tiers: _Optional[_Iterable[str]] = ..., ready: _Optional[bool] = ..., draining: _Optional[bool] = ..., configured_generation: _Optional[int] = ..., capacity: _Optional[int] = ..., resident: _Optional[int] = ..., spares: _Optional[int] = ..., active_requests: _Optional[int] = ..., problems: _Optional[_Iterable[str]] = ..., isolation: _Optional[_Iterable[str]] = ..., isolation_missing: _Optional[_Mapping[str, str]] = ..., store_silent: _Optional[bool] = ..., counters: _Optional[_Union[HostCounters, _Mapping]] = ..., protocol: _Optional[int] = ..., reserved_for: _Optional[str] = ..., awaited: _Optional[_Iterable[_Union[Awaited, _Mapping]]] = ..., queued: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., load: _Optional[_Union[HostLoad, _Mapping]] = ..., flags: _Optional[_Union[FeatureFlags, _Mapping]] = ...) -> None: ...

class HostLoad(_message.Message):
    __slots__ = ("workers_cpu_millis", "host_cpu_millis", "workers_memory_bytes", "arrivals_per_second", "completions_per_second", "latency_p50_ms", "latency_p99_ms")
    WORKERS_CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    HOST_CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ARRIVALS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_MS_FIELD_NUMBER: _ClassVar[int]
    workers_cpu_millis: int
    host_cpu_millis: int
    workers_memory_bytes: int
    arrivals_per_second: float
    completions_per_second: float
    latency_p50_ms: float
    latency_p99_ms: float
    def __init__(self, workers_cpu_millis: _Optional[int] = ..., host_cpu_millis: _Optional[int] = ..., workers_memory_bytes: _Optional[int] = ..., arrivals_per_second: _Optional[float] = ..., completions_per_second: _Optional[float] = ..., latency_p50_ms: _Optional[float] = ..., latency_p99_ms: _Optional[float] = ...) -> None: ...

class Awaited(_message.Message):
    __slots__ = ("instance_id", "tenant_id", "project_id", "tier", "asked_at")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    tenant_id: str
    project_id: str
    tier: str
    asked_at: float
    def __init__(self, instance_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., asked_at: _Optional[float] = ...) -> None: ...

class HostCounters(_message.Message):
    __slots__ = ("created", "destroyed", "operations", "operation_seconds", "hits", "misses", "evictions", "crashes", "succeeded", "failed")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    DESTROYED_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    OPERATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    created: int
    destroyed: int
    operations: int
    operation_seconds: float
    hits: int
    misses: int
    evictions: int
    crashes: int
    succeeded: int
    failed: int
    def __init__(self, created: _Optional[int] = ..., destroyed: _Optional[int] = ..., operations: _Optional[int] = ..., operation_seconds: _Optional[float] = ..., hits: _Optional[int] = ..., misses: _Optional[int] = ..., evictions: _Optional[int] = ..., crashes: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...

class WatchSnapshot(_message.Message):
    __slots__ = ("host", "instances")
    HOST_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    host: HostStatus
    instances: _containers.RepeatedCompositeFieldContainer[_types_pb2.Instance]
    def __init__(self, host: _Optional[_Union[HostStatus, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[_types_pb2.Instance, _Mapping]]] = ...) -> None: ...

class WatchDelta(_message.Message):
    __slots__ = ("host", "changed", "gone")
    HOST_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    host: HostStatus
    changed: _containers.RepeatedCompositeFieldContainer[_types_pb2.Instance]
    gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, host: _Optional[_Union[HostStatus, _Mapping]] = ..., changed: _Optional[_Iterable[_Union[_types_pb2.Instance, _Mapping]]] = ..., gone: _Optional[_Iterable[str]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("cursor", "limit")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    limit: int
    def __init__(self, cursor: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("instances", "cursor")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_types_pb2.Instance]
    cursor: str
    def __init__(self, instances: _Optional[_Iterable[_Union[_types_pb2.Instance, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...
