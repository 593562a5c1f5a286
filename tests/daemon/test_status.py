"""What the daemon says of itself in each of its stages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from bise_daemon import status as status_module
from bise_daemon.admission import Ask, Capacity, Grant
from bise_daemon.config.load import config_from_flags
from bise_daemon.engine.counters import Counters
from bise_daemon.engine.events import Drafts, Finish, Finished, Times
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.compiler import Compiler
from bise_daemon.memory.governor import MemoryLevel
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Pressure, Reading
from bise_daemon.models.model import Model, load_model
from bise_daemon.reception import Admitted, Reception
from bise_daemon.scheduler.request import Priority
from bise_daemon.serving import Serving, Stage
from bise_daemon.status import DeviceService
from bise_proto.v1 import device_pb2, device_pb2_grpc
from running import running


class StillEngine:
    """An engine as the status sees it: counters, and whether it ended."""

    def __init__(self) -> None:
        self.counters = Counters(finished=1, cancelled=2, failed=3, prompt_tokens=4, completion_tokens=5, steps=6)
        self.ended: Future[None] = Future()


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return load_model(
        config_from_flags({"bundle": str(tiny_bundle), "listen": "unix:///unused", "threads": 1, "slots": 2})
    )


@pytest.fixture
def engine() -> StillEngine:
    return StillEngine()


@pytest.fixture
def reception(model: Model, engine: StillEngine) -> Reception:
    capacity = Capacity(model.limits, 192, 320, 4)
    return Reception(capacity, SimpleNamespace(engine=engine), model.costs, lambda: 0.0)  # type: ignore[arg-type]


@pytest.fixture
def stage(model: Model, engine: StillEngine, reception: Reception) -> Stage:
    stage = Stage()
    stage.serve(Serving(model, SimpleNamespace(engine=engine), reception, Compiler(model.tokenizer)))  # type: ignore[arg-type]
    return stage


async def status(stage: Stage) -> device_pb2.Status:
    return await DeviceService(stage).GetStatus(device_pb2.GetStatusRequest(), None)  # type: ignore[arg-type]


async def test_while_loading_it_knows_the_device_only() -> None:
    told = await status(Stage())
    assert told.state == device_pb2.Status.LOADING
    assert told.daemon_version
    assert told.rss_bytes > 0
    assert told.memory_available_bytes > 0
    assert (told.model, told.slots) == ("", 0)


async def test_while_serving_it_knows_the_model_and_what_was_done(
    stage: Stage, engine: StillEngine, model: Model
) -> None:
    engine.counters.slots_used, engine.counters.waiting, engine.counters.cached_tokens = 2, 1, 10
    told = await status(stage)
    assert told.state == device_pb2.Status.SERVING
    assert (told.model, told.context_limit) == ("tiny", 192)
    assert (told.slots, told.slots_used, told.queued) == (2, 2, 1)
    assert told.kv_used_bytes == 10 * model.cache.shape.bytes_per_token
    assert told.kv_reserved_bytes >= 2 * 256 * model.cache.shape.bytes_per_token
    assert (told.requests_finished, told.requests_cancelled, told.requests_failed) == (1, 2, 3)
    assert (told.prompt_tokens, told.completion_tokens, told.steps) == (4, 5, 6)
    assert (told.load_ms, told.specialised) == (model.load_ms, False)


async def test_it_knows_what_the_cache_holds_and_may_hold(
    stage: Stage, engine: StillEngine, model: Model, reception: Reception
) -> None:
    engine.counters.cached_tokens, engine.counters.idle_tokens = 10, 30
    reception.capacity = replace(reception.capacity, limits=replace(model.limits, kv_budget_tokens=500))
    reception.level = MemoryLevel.TIGHT
    told = await status(stage)
    bytes_per_token = model.cache.shape.bytes_per_token
    assert (told.kv_used_bytes, told.kv_idle_bytes) == (10 * bytes_per_token, 30 * bytes_per_token)
    assert told.kv_budget_bytes == 500 * bytes_per_token
    assert told.memory_level == device_pb2.Status.TIGHT


@pytest.mark.parametrize("level", MemoryLevel)
async def test_every_level_of_memory_has_a_name_on_the_wire(
    stage: Stage, reception: Reception, level: MemoryLevel
) -> None:
    reception.level = level
    assert device_pb2.Status.MemoryLevel.Name((await status(stage)).memory_level) == level.name


async def test_it_knows_how_long_work_waited_for_memory(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = replace(read_memory(), pressure=Pressure(0.25, 0.125))

    def read() -> Reading:
        return reading

    monkeypatch.setattr(status_module, "read_memory", read)
    told = await status(stage)
    assert (told.memory_pressure_some, told.memory_pressure_full) == (0.25, 0.125)


async def test_it_knows_what_became_of_promises(stage: Stage, reception: Reception) -> None:
    for reason in (Reason.MEMORY, Reason.MEMORY, Reason.QUEUE_FULL):
        reception.refused(RequestError(reason, "no."))
    ask = Ask(5, 0, 9, None, False, Priority.INTERACTIVE, 0.0, 900.0, 600.0, None, None)
    admitted = Admitted(ask, Grant(9, 100.0, 500.0), Grant(9, 100.0, 500.0))
    reception.settle(admitted, Finished(Finish.LENGTH, "", 9, Times(10, 200, 500)))
    reception.settle(admitted, Finished(Finish.DEADLINE, "", 9, Times(10, 100, 601)))
    told = await status(stage)
    assert dict(told.refusals) == {"MEMORY": 2, "QUEUE_FULL": 1}
    assert (told.budgets_met, told.budgets_missed) == (1, 1)
    assert {name: (each.met, each.missed) for name, each in told.promises.items()} == {
        "critical": (0, 0),
        "interactive": (1, 1),
        "background": (0, 0),
    }
    assert (told.first_token_error.samples, told.total_error.samples) == (2, 1)
    assert (told.first_token_error.p50, told.total_error.p50) == (0.25, 0.0)


async def test_it_knows_what_reuse_guesses_and_order_did(stage: Stage, engine: StillEngine) -> None:
    counters = engine.counters
    counters.reused_tokens, counters.drafts, counters.preempted, counters.expired = 7, Drafts(6, 5), 4, 3
    told = await status(stage)
    assert (told.cached_tokens, told.draft_tokens, told.accepted_draft_tokens) == (7, 6, 5)
    assert (told.requests_preempted, told.requests_expired) == (4, 3)
    assert (told.step_time_ratio_p50, told.step_time_ratio_p90) == (1, 1)


async def test_a_step_that_hangs_is_seen(stage: Stage, engine: StillEngine) -> None:
    assert (await status(stage)).step_running_ms == 0
    engine.counters.busy_since_ms = 0.0  # when the clock began
    assert (await status(stage)).step_running_ms > 0


async def test_draining_is_told(stage: Stage) -> None:
    stage.drain()
    assert (await status(stage)).state == device_pb2.Status.DRAINING


@pytest.mark.parametrize("draining", [False, True])
async def test_a_failed_engine_says_why(stage: Stage, engine: StillEngine, draining: bool) -> None:
    if draining:
        stage.drain()
    engine.ended.set_exception(RuntimeError("the disk burns"))
    told = await status(stage)
    assert (told.state, told.detail) == (device_pb2.Status.FAILED, "the disk burns")


async def test_an_engine_that_was_stopped_is_no_failure(stage: Stage, engine: StillEngine) -> None:
    stage.drain()
    engine.ended.set_result(None)
    assert (await status(stage)).state == device_pb2.Status.DRAINING


def test_a_stage_refuses_with_what_it_waits_for(stage: Stage) -> None:
    with pytest.raises(RequestError) as refusal:
        Stage().serving()
    assert (refusal.value.reason, refusal.value.retry_after_ms) == (Reason.LOADING, 1000)
    assert stage.serving() is stage.current
    stage.drain()
    with pytest.raises(RequestError) as refusal:
        stage.serving()
    assert refusal.value.reason is Reason.DRAINING


@pytest.fixture(scope="module")
def loading(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a daemon that loads until the tests are over."""
    over = threading.Event()

    def load(config: object, loading: object) -> Model:
        assert over.wait(60)
        return load_model(config)  # type: ignore[arg-type]

    with running(tiny_bundle, tmp_path_factory.mktemp("loading"), load=load) as daemon:
        yield daemon.address
        over.set()


@pytest.mark.slow
def test_a_watch_tells_again_and_again(loading: str) -> None:
    with grpc.insecure_channel(loading) as channel:
        told = device_pb2_grpc.DeviceStub(channel).WatchStatus(
            device_pb2.WatchStatusRequest(interval_ms=100), timeout=30
        )
        first, second = next(told), next(told)
    assert first.state == second.state == device_pb2.Status.LOADING
    assert second.uptime_s >= first.uptime_s + 0.09


@pytest.mark.slow
@pytest.mark.parametrize("interval_ms", [99, 60_001])
def test_a_watch_has_bounds(loading: str, interval_ms: int) -> None:
    with grpc.insecure_channel(loading) as channel:
        told = device_pb2_grpc.DeviceStub(channel).WatchStatus(device_pb2.WatchStatusRequest(interval_ms=interval_ms))
        with pytest.raises(grpc.RpcError) as refusal:
            next(told)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == f"interval_ms: expected 100 to 60000, got {interval_ms}."
