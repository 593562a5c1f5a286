from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchStatusRequest(_message.Message):
    __slots__ = ("interval_ms",)
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    interval_ms: int
    def __init__(self, interval_ms: _Optional[int] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("state", "detail", "daemon_version", "model", "model_version", "uptime_s", "load_ms", "context_limit", "slots", "slots_used", "queued", "kv_reserved_bytes", "kv_used_bytes", "rss_bytes", "peak_rss_bytes", "memory_available_bytes", "requests_finished", "requests_cancelled", "requests_failed", "prompt_tokens", "completion_tokens", "steps", "step_running_ms", "memory_level", "kv_budget_bytes", "kv_idle_bytes", "memory_pressure_some", "memory_pressure_full", "refusals", "budgets_met", "budgets_missed", "first_token_error", "total_error", "step_time_ratio_p50", "step_time_ratio_p90", "cached_tokens", "draft_tokens", "accepted_draft_tokens", "requests_preempted", "requests_expired", "specialised", "promises")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Status.State]
        LOADING: _ClassVar[Status.State]
        SERVING: _ClassVar[Status.State]
        DRAINING: _ClassVar[Status.State]
        FAILED: _ClassVar[Status.State]
    STATE_UNSPECIFIED: Status.State
    LOADING: Status.State
    SERVING: Status.State
    DRAINING: Status.State
    FAILED: Status.State
    class MemoryLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MEMORY_LEVEL_UNSPECIFIED: _ClassVar[Status.MemoryLevel]
        NORMAL: _ClassVar[Status.MemoryLevel]
        TIGHT: _ClassVar[Status.MemoryLevel]
        CRITICAL: _ClassVar[Status.MemoryLevel]
    MEMORY_LEVEL_UNSPECIFIED: Status.MemoryLevel
    NORMAL: Status.MemoryLevel
    TIGHT: Status.MemoryLevel
    CRITICAL: Status.MemoryLevel
    class RefusalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PromisesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Promises
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Promises, _Mapping]] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_MS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    KV_RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FINISHED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_RUNNING_MS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LEVEL_FIELD_NUMBER: _ClassVar[int]
    KV_BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_IDLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PRESSURE_SOME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PRESSURE_FULL_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_MET_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_MISSED_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_ERROR_FIELD_NUMBER: _ClassVar[int]
    TOTAL_ERROR_FIELD_NUMBER: _ClassVar[int]
    STEP_TIME_RATIO_P50_FIELD_NUMBER: _ClassVar[int]
    STEP_TIME_RATIO_P90_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PREEMPTED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    SPECIALISED_FIELD_NUMBER: _ClassVar[int]
    PROMISES_FIELD_NUMBER: _ClassVar[int]
    state: Status.State
    detail: str
    daemon_version: str
    model: str
    model_version: str
    uptime_s: float
    load_ms: float
    context_limit: int
    slots: int
    slots_used: int
    queued: int
    kv_reserved_bytes: int
    kv_used_bytes: int
    rss_bytes: int
    peak_rss_bytes: int
    memory_available_bytes: int
    requests_finished: int
    requests_cancelled: int
    requests_failed: int
    prompt_tokens: int
    completion_tokens: int
    steps: int
    step_running_ms: float
    memory_level: Status.MemoryLevel
    kv_budget_bytes: int
    kv_idle_bytes: int
    memory_pressure_some: float
    memory_pressure_full: float
    refusals: _containers.ScalarMap[str, int]
    budgets_met: int
    budgets_missed: int
    first_token_error: PredictionError
    total_error: PredictionError
    step_time_ratio_p50: float
    step_time_ratio_p90: float
    cached_tokens: int
    draft_tokens: int
    accepted_draft_tokens: int
    requests_preempted: int
    requests_expired: int
    specialised: bool
    promises: _containers.MessageMap[str, Promises]
    def __init__(self, state: _Optional[_Union[Status.State, str]] = ..., detail: _Optional[str] = ..., daemon_version: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., uptime_s: _Optional[float] = ..., load_ms: _Optional[float] = ..., context_limit: _Optional[int] = ..., slots: _Optional[int] = ..., slots_used: _Optional[int] = ..., queued: _Optional[int] = ..., kv_reserved_bytes: _Optional[int] = ..., kv_used_bytes: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., peak_rss_bytes: _Optional[int] = ..., memory_available_bytes: _Optional[int] = ..., requests_finished: _Optional[int] = ..., requests_cancelled: _Optional[int] = ..., requests_failed: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., steps: _Optional[int] = ..., step_running_ms: _Optional[float] = ..., memory_level: _Optional[_Union[Status.MemoryLevel, str]] = ..., kv_budget_bytes: _Optional[int] = ..., kv_idle_bytes: _Optional[int] = ..., memory_pressure_some: _Optional[float] = ..., memory_pressure_full: _Optional[float] = ..., refusals: _Optional[_Mapping[str, int]] = ..., budgets_met: _Optional[int] = ..., budgets_missed: _Optional[int] = ..., first_token_error: _Optional[_Union[PredictionError, _Mapping]] = ..., total_error: _Optional[_Union[PredictionError, _Mapping]] = ..., step_time_ratio_p50: _Optional[float] = ..., step_time_ratio_p90: _Optional[float] = ..., cached_tokens: _Optional[int] = ..., draft_tokens: _Optional[int] = ..., accepted_draft_tokens: _Optional[int] = ..., requests_preempted: _Optional[int] = ..., requests_expired: _Optional[int] = ..., specialised: _Optional[bool] = ..., promises: _Optional[_Mapping[str, Promises]] = ...) -> None: ...

class Promises(_message.Message):
    __slots__ = ("met", "missed")
    MET_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    met: int
    missed: int
    def __init__(self, met: _Optional[int] = ..., missed: _Optional[int] = ...) -> None: ...

class PredictionError(_message.Message):
    __slots__ = ("p50", "p90", "samples")
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    p50: float
    p90: float
    samples: int
    def __init__(self, p50: _Optional[float] = ..., p90: _Optional[float] = ..., samples: _Optional[int] = ...) -> None: ...
