"""Callers that leave, that never read, or whose engine breaks: over a real socket, with nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from bise import BiseError, Client, DaemonUnavailable
from bise_daemon.engine.runner import Logits
from bise_daemon.models.model import Model, load_model
from bise_proto.v1 import inference_pb2, inference_pb2_grpc
from running import RunningDaemon, running

pytestmark = pytest.mark.slow

_PATIENCE_S = 30
# As small a window as gRPC allows: a server notices soon that nobody reads.
_NARROW = [("grpc.http2.lookahead_bytes", 64), ("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture(scope="module")
def daemon(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with running(tiny_bundle, tmp_path_factory.mktemp("daemon"), slots=2, max_queue=100) as daemon:
        with Client(daemon.address) as client:
            client.wait_until_serving()
        yield daemon


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(daemon.address) as client:
        yield client


def wait_idle(daemon: RunningDaemon) -> None:
    """Returns when the daemon has forgotten every request."""
    serving = daemon.server._stage.current
    assert serving is not None
    asyncio.run_coroutine_threadsafe(serving.dispatcher.wait_idle(), daemon._loop).result(_PATIENCE_S)


def start(channel: grpc.Channel, **options: Any) -> Any:
    """An answer that fills the whole context, unless its caller leaves."""
    request = inference_pb2.GenerateRequest(prompt="Hi", options=inference_pb2.Options(ignore_eos=True, **options))
    return inference_pb2_grpc.InferenceStub(channel).Generate(request)


@pytest.mark.parametrize("messages", [0, 1, 2], ids=["at once", "once accepted", "within the answer"])
def test_many_who_leave_are_all_forgotten(daemon: RunningDaemon, client: Client, messages: int) -> None:
    alone = client.generate("Hi", max_tokens=20, ignore_eos=True)
    with grpc.insecure_channel(daemon.address) as channel:
        for _ in range(20):
            call = start(channel)
            for _ in range(messages):
                next(call)
            call.cancel()
        assert client.generate("Hi", max_tokens=20, ignore_eos=True).token_ids == alone.token_ids
        wait_idle(daemon)
    for status in client.watch_status(interval=0.1, timeout=_PATIENCE_S):
        if status.slots_used == status.queued == status.kv_used_bytes == 0:
            break


def test_a_connection_that_breaks_is_a_caller_that_leaves(daemon: RunningDaemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        next(start(channel))
    wait_idle(daemon)


def test_who_never_reads_delays_nobody_and_is_forgotten_when_they_leave(daemon: RunningDaemon, client: Client) -> None:
    before = client.status().requests_finished
    with grpc.insecure_channel(daemon.address, _NARROW) as channel:
        calls = [start(channel, logprobs=True, top_logprobs=20) for _ in range(4)]
        # Their answers are made to the end, unread, and their slots are free again.
        for status in client.watch_status(interval=0.1, timeout=_PATIENCE_S):
            if status.requests_finished == before + 4:
                break
        assert client.generate("Hi", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
        for call in calls:
            call.cancel()
        wait_idle(daemon)


class Broken:
    """A session whose step number `after` fails, as a real one may (memory, a kernel)."""

    def __init__(self, model: Model, after: int) -> None:
        self._session = model.session
        self._left = after

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        return self._session.prefill(slot, start, tokens, samples)

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        self._left -= 1
        if self._left < 0:
            raise MemoryError("the device is out of memory")
        return self._session.decode(first_slot, tokens, positions)

    def verify(self, slot: int, start: int, tokens: Sequence[int], num_logits: int) -> Logits:
        return self._session.verify(slot, start, tokens, num_logits)

    def interrupt(self) -> None:
        self._session.interrupt()


def test_an_engine_that_breaks_fails_its_callers_and_ends_the_daemon(tiny_bundle: Path, tmp_path: Path) -> None:
    def load(config: Any) -> Model:
        model = load_model(config)
        return replace(model, session=Broken(model, after=3))  # type: ignore[arg-type]  # as much as the engine needs

    def ask() -> None:
        with running(tiny_bundle, tmp_path, load=load) as daemon, Client(daemon.address) as client:
            client.wait_until_serving()
            with pytest.raises(BiseError) as failure:
                client.generate("Hi", ignore_eos=True)
            assert getattr(failure.value, "reason", None) == "ENGINE_FAILED"
            daemon.ended.exception(_PATIENCE_S)
            with pytest.raises(DaemonUnavailable):
                client.generate("Hi", timeout=1)

    with pytest.raises(MemoryError, match="out of memory"):
        ask()
    assert not (tmp_path / "bise.sock").exists()
