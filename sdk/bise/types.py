"""What calls take and give: frozen values, free of protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from bise.messages import MalformedToolCall, Message, ToolCall, ToolCallDelta

Priority = Literal["interactive", "critical", "background"]
OnExpiry = Literal["partial", "fail"]
OnOverflow = Literal["error", "truncate_oldest"]
Chunking = Literal["token", "clause", "sentence"]


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model ended it
    STOP_SEQUENCE = "stop_sequence"  # one of the request's stop strings
    LENGTH = "length"  # max_tokens, or the context limit
    DEADLINE = "deadline"  # the budget ran out: the text is the best so far
    INTERRUPTED = "interrupted"  # the user spoke in between
    TOOL_CALLS = "tool_calls"  # the model ended it, and waits for results of tools
    UNKNOWN = "unknown"  # a reason of a newer daemon


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and tokens made.

    Attributes:
        cached_tokens: prompt tokens that were not computed again.
        draft_tokens: tokens guessed ahead; `accepted_draft_tokens` of them were what the model would have made.
        forced_tokens: tokens that the answer's format left no choice about.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    forced_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds from arrival in the daemon."""

    queue_ms: float
    prefill_ms: float
    first_token_ms: float
    total_ms: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the daemon promised before the first token.

    Attributes:
        granted_max_tokens: tokens the answer may have: `max_tokens`, or fewer where the budget or the context limit
            allows no more.
        context_limit: tokens one request may hold now, prompt and answer together.
        seed: the seed in use; the same seed, bundle and request give the same tokens.
        predicted_first_token_ms: from arrival, as the daemon sees it now.
        predicted_total_ms: likewise, for an answer of `granted_max_tokens`.
        cached_tokens: prompt tokens that need not be computed again.
        dropped_messages: what `on_overflow="truncate_oldest"` left out; these were `dropped_tokens` of the prompt.
    """

    request_id: str
    prompt_tokens: int
    granted_max_tokens: int
    context_limit: int
    seed: int
    predicted_first_token_ms: float = 0.0
    predicted_total_ms: float = 0.0
    cached_tokens: int = 0
    dropped_messages: int = 0
    dropped_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its natural log probability.

    Attributes:
        token: the token's own bytes; a character can span tokens.
        top: the most likely alternatives, when asked for.
    """

    token_id: int
    token: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What an answer grew by; `text` holds whole characters only, and may be empty.

    Pieces of calls may turn out to be of none: `Result.tool_calls` has those that are whole.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A whole answer.

    Attributes:
        logprobs: empty unless asked for, else one for each of `token_ids` but those that a format dictated.
        closed_early: the answer's format was closed before the model would have, since tokens or time ran out: it is
            whole, but its last values are the shortest ones that the format allows.
        tool_calls: the calls the model made, each whole.
        malformed_tool_calls: what it wrote for calls, but are none.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    accepted: Accepted
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    closed_early: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    malformed_tool_calls: tuple[MalformedToolCall, ...] = ()

    @property
    def message(self) -> Message:
        """The answer as a turn of the conversation that goes on."""
        return Message("assistant", self.text, self.tool_calls)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How the daemon tokenizes an input. `rendered` is the text the chat format made of the messages."""

    count: int
    token_ids: tuple[int, ...]
    context_limit: int
    rendered: str


class Health(StrEnum):
    """The daemon's answer to a health check."""

    SERVING = "serving"
    NOT_SERVING = "not_serving"
    UNKNOWN = "unknown"


class State(StrEnum):
    """Where the daemon is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"
    UNKNOWN = "unknown"


class MemoryLevel(StrEnum):
    """How short of memory the device is."""

    NORMAL = "normal"
    TIGHT = "tight"  # idle prefixes are dropped, and new requests get a smaller context limit
    CRITICAL = "critical"  # new requests are refused where memory can't hold them, background work is interrupted
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PredictionError:
    """How far predictions were off lately: quantiles of |actual - predicted| / actual over `samples` requests."""

    p50: float = 0.0
    p90: float = 0.0
    samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The daemon's view of itself and of the device; counters count from its start.

    Attributes:
        detail: why, when `state` is FAILED.
        context_limit: tokens one request may hold now.
        kv_reserved_bytes: address space of the KV cache; `kv_used_bytes` of it holds data.
        kv_budget_bytes: what all requests together may hold now.
        kv_idle_bytes: kept for requests that begin like earlier ones; given back first.
        memory_pressure_some: share of the last 10 s in which some work waited for memory; 0 where the kernel does
            not tell. `memory_pressure_full` is the share in which all work did.
        refusals: how many requests were refused, by reason, for instance `{"BUDGET": 3}`.
        budgets_met: requests with a stated budget that kept it; `budgets_missed` did not.
        first_token_error: how far predicted first-token times were off; `total_error` likewise.
        step_time_ratio_p50: step times over predicted step times, as quantiles; 1 is as predicted.
        cached_tokens: prompt tokens that were not computed again.
        requests_preempted: how often background work was interrupted; it goes on later.
        requests_expired: requests whose time ran out.
        specialised: the weights are mapped as this device packs them, rather than repacked at each start.
        step_running_ms: how long the present step has been running; 0 while there is nothing to do.
    """

    state: State = State.SERVING
    detail: str = ""
    daemon_version: str = ""
    model: str = ""
    model_version: str = ""
    uptime_s: float = 0.0
    load_ms: float = 0.0
    context_limit: int = 0
    slots: int = 0
    slots_used: int = 0
    queued: int = 0
    kv_reserved_bytes: int = 0
    kv_used_bytes: int = 0
    rss_bytes: int = 0
    peak_rss_bytes: int = 0
    memory_available_bytes: int = 0
    requests_finished: int = 0
    requests_cancelled: int = 0
    requests_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    step_running_ms: float = 0.0
    memory_level: MemoryLevel = MemoryLevel.NORMAL
    kv_budget_bytes: int = 0
    kv_idle_bytes: int = 0
    memory_pressure_some: float = 0.0
    memory_pressure_full: float = 0.0
    refusals: Mapping[str, int] = field(default_factory=dict, hash=False)
    budgets_met: int = 0
    budgets_missed: int = 0
    first_token_error: PredictionError = PredictionError()
    total_error: PredictionError = PredictionError()
    step_time_ratio_p50: float = 0.0
    step_time_ratio_p90: float = 0.0
    cached_tokens: int = 0
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    requests_preempted: int = 0
    requests_expired: int = 0
    specialised: bool = False
