# Generated from proto/agentpool_proto/v1/types.proto by `make generate`. Do not edit.
# SPDX-License-Identifier: Apache-2.0
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Instance(_message.Message):
    __slots__ = ("id", "tenant_id", "project_id", "tier", "state", "reason", "pod", "epoch", "origin", "isolation", "active_requests", "total_requests", "created_at", "last_used_at", "memory_bytes", "cpu_seconds", "wish", "quota", "declared_uid", "recovery", "pinned", "load", "breaker")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WISH_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    DECLARED_UID_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant_id: str
    project_id: str
    tier: str
    state: str
    reason: str
    pod: str
    epoch: int
    origin: str
    isolation: _containers.RepeatedScalarFieldContainer[str]
    active_requests: int
    total_requests: int
    created_at: float
    last_used_at: float
    memory_bytes: int
    cpu_seconds: float
    wish: str
    quota: Quota
    declared_uid: str
    recovery: Recovery
    pinned: bool
    load: LoadMetrics
    breaker: Breaker
    def __init__(self, id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., project_id: _Optional[str] = ..., tier: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., pod: _Optional[str] = ..., epoch: _Optional[int] = ..., origin: _Optional[str] = ..., isolation: _Optional[_Iterable[str]] = ..., active_requests: _Optional[int] = ..., total_requests: _Optional[int] = ..., created_at: _Optional[float] = ..., last_used_at: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., cpu_seconds: _Optional[float] = ..., wish: _Optional[str] = ..., quota: _Optional[_Union[Quota, _Mapping]] = ..., declared_uid: _Optional[str] = ..., recovery: _Optional[_Union[Recovery, _Mapping]] = ..., pinned: _Optional[bool] = ..., load: _Optional[_Union[LoadMetrics, _Mapping]] = ..., breaker: _Optional[_Union[Breaker, _Mapping]] = ...) -> None: ...

class Breaker(_message.Message):
    __slots__ = ("state", "consecutive_failures", "reopenings", "open_until")
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONSECUTIVE_FAILURES_FIELD_NUMBER: _ClassVar[int]
    REOPENINGS_FIELD_NUMBER: _ClassVar[int]
    OPEN_UNTIL_FIELD_NUMBER: _ClassVar[int]
    state: str
    consecutive_failures: int
    reopenings: int
    open_until: float
    def __init__(self, state: _Optional[str] = ..., consecutive_failures: _Optional[int] = ..., reopenings: _Optional[int] = ..., open_until: _Optional[float] = ...) -> None: ...

class LoadMetrics(_message.Message):
    __slots__ = ("active_commands", "queue_length", "average_response_time_ms", "success_rate", "last_updated")
    ACTIVE_COMMANDS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_RESPONSE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATED_FIELD_NUMBER: _ClassVar[int]
    active_commands: int
    queue_length: int
    average_response_time_ms: float
    success_rate: float
    last_updated: float
    def __init__(self, active_commands: _Optional[int] = ..., queue_length: _Optional[int] = ..., average_response_time_ms: _Optional[float] = ..., success_rate: _Optional[float] = ..., last_updated: _Optional[float] = ...) -> None: ...

class Recovery(_message.Message):
    __slots__ = ("cause", "strategy", "failures", "failed_at", "retry_at", "message")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    cause: str
    strategy: str
    failures: int
    failed_at: float
    retry_at: float
    message: str
    def __init__(self, cause: _Optional[str] = ..., strategy: _Optional[str] = ..., failures: _Optional[int] = ..., failed_at: _Optional[float] = ..., retry_at: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("memory_bytes", "cpu_millis", "concurrent_requests", "requests_per_minute")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLIS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    cpu_millis: int
    concurrent_requests: int
    requests_per_minute: int
    def __init__(self, memory_bytes: _Optional[int] = ..., cpu_millis: _Optional[int] = ..., concurrent_requests: _Optional[int] = ..., requests_per_minute: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("activated_ms", "admitted_ms", "first_event_ms", "done_ms")
    ACTIVATED_MS_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVENT_MS_FIELD_NUMBER: _ClassVar[int]
    DONE_MS_FIELD_NUMBER: _ClassVar[int]
    activated_ms: float
    admitted_ms: float
    first_event_ms: float
    done_ms: float
    def __init__(self, activated_ms: _Optional[float] = ..., admitted_ms: _Optional[float] = ..., first_event_ms: _Optional[float] = ..., done_ms: _Optional[float] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("instance_id", "pod", "incarnation", "epoch", "tier", "activated", "restored", "one_shot")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    ONE_SHOT_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    pod: str
    incarnation: str
    epoch: int
    tier: str
    activated: bool
    restored: bool
    one_shot: bool
    def __init__(self, instance_id: _Optional[str] = ..., pod: _Optional[str] = ..., incarnation: _Optional[str] = ..., epoch: _Optional[int] = ..., tier: _Optional[str] = ..., activated: _Optional[bool] = ..., restored: _Optional[bool] = ..., one_shot: _Optional[bool] = ...) -> None: ...

class ChunkEvent(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("output", "timing", "stale", "replayed")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    timing: Timing
    stale: bool
    replayed: bool
    def __init__(self, output: _Optional[bytes] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., stale: _Optional[bool] = ..., replayed: _Optional[bool] = ...) -> None: ...

class InvokeEvent(_message.Message):
    __slots__ = ("accepted", "chunk", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    chunk: ChunkEvent
    done: Done
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., chunk: _Optional[_Union[ChunkEvent, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ...) -> None: ...
