"""`bise.v1.Device`: what the daemon knows of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from importlib.metadata import version

from bise_daemon.engine.loop import clock_ms
from bise_daemon.errors import Reason, RequestError
from bise_daemon.memory.governor import MemoryLevel
from bise_daemon.memory.readers import read_memory
from bise_daemon.scheduler.request import Priority
from bise_daemon.serving import Stage
from bise_daemon.wire import Context, abort
from bise_proto.v1 import device_pb2, device_pb2_grpc

_INTERVALS_MS = range(100, 60_001)
_DEFAULT_INTERVAL_MS = 1000
_MEMORY_LEVELS = {
    MemoryLevel.NORMAL: device_pb2.Status.NORMAL,
    MemoryLevel.TIGHT: device_pb2.Status.TIGHT,
    MemoryLevel.CRITICAL: device_pb2.Status.CRITICAL,
}


class DeviceService(device_pb2_grpc.DeviceServicer):
    """Reports the daemon's state; never waits for the engine."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._began_s = time.monotonic()
        self._version = version("bise")

    async def GetStatus(self, request: device_pb2.GetStatusRequest, context: Context) -> device_pb2.Status:  # noqa: N802, ARG002
        """The status now."""
        return self.status()

    async def WatchStatus(  # noqa: N802 - the proto's name
        self, request: device_pb2.WatchStatusRequest, context: Context
    ) -> AsyncIterator[device_pb2.Status]:
        """The status now and again, until the caller leaves."""
        interval_ms = request.interval_ms or _DEFAULT_INTERVAL_MS
        if interval_ms not in _INTERVALS_MS:
            await abort(
                context,
                RequestError(
                    Reason.INVALID_OPTION,
                    f"interval_ms: expected {_INTERVALS_MS.start} to {_INTERVALS_MS.stop - 1}, got {interval_ms}.",
                    numbers={"field": "interval_ms"},
                ),
            )
        while True:
            yield self.status()
            await asyncio.sleep(interval_ms / 1e3)

    def status(self) -> device_pb2.Status:
        """The same, for callers within the daemon."""
        memory = read_memory()
        status = device_pb2.Status(
            state=device_pb2.Status.LOADING,
            daemon_version=self._version,
            uptime_s=time.monotonic() - self._began_s,
            rss_bytes=memory.rss_bytes,
            peak_rss_bytes=memory.peak_rss_bytes,
            memory_available_bytes=memory.available_bytes,
        )
        if (serving := self._stage.current) is None:
            return status
        model, engine = serving.model, serving.dispatcher.engine
        counters = engine.counters
        status.state = device_pb2.Status.DRAINING if self._stage.draining else device_pb2.Status.SERVING
        if engine.ended.done() and (failure := engine.ended.exception()) is not None:
            status.state = device_pb2.Status.FAILED
            status.detail = str(failure)
        status.model, status.model_version = model.bundle.name, model.bundle.version
        status.load_ms, status.specialised = model.load_ms, model.specialised
        reception = serving.reception
        status.context_limit = reception.capacity.context_limit
        status.slots, status.slots_used, status.queued = model.limits.slots, counters.slots_used, counters.waiting
        status.kv_reserved_bytes = model.cache.reserved_bytes
        bytes_per_token = model.cache.shape.bytes_per_token
        status.kv_used_bytes = counters.cached_tokens * bytes_per_token
        status.kv_idle_bytes = counters.idle_tokens * bytes_per_token
        status.kv_budget_bytes = reception.capacity.limits.kv_budget_tokens * bytes_per_token
        status.memory_level = _MEMORY_LEVELS[reception.level]
        status.memory_pressure_some, status.memory_pressure_full = memory.pressure.some, memory.pressure.full
        status.refusals.update(reception.refusals)
        status.budgets_met, status.budgets_missed = reception.met.total(), reception.missed.total()
        for priority in Priority:
            promises = status.promises[priority.name.lower()]
            promises.met, promises.missed = reception.met[priority], reception.missed[priority]
        for error, accuracy in (
            (status.first_token_error, reception.first_token),
            (status.total_error, reception.total),
        ):
            errors = accuracy.errors
            error.p50, error.p90, error.samples = errors.p50, errors.p90, errors.samples
        status.step_time_ratio_p50, status.step_time_ratio_p90 = model.costs.ratio_p50, model.costs.ratio_p90
        status.cached_tokens = counters.reused_tokens
        status.draft_tokens, status.accepted_draft_tokens = counters.drafts.guessed, counters.drafts.confirmed
        status.requests_preempted, status.requests_expired = counters.preempted, counters.expired
        status.requests_finished, status.requests_cancelled = counters.finished, counters.cancelled
        status.requests_failed = counters.failed
        status.prompt_tokens, status.completion_tokens = counters.prompt_tokens, counters.completion_tokens
        status.steps = counters.steps
        busy_since_ms = counters.busy_since_ms
        status.step_running_ms = 0.0 if busy_since_ms is None else max(0.0, clock_ms() - busy_since_ms)
        return status
