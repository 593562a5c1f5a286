"""The daemon over a real socket, with a tiny real model: what callers meet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bise import (
    Client,
    ContextOverflow,
    DaemonUnavailable,
    FinishReason,
    InvalidRequest,
    OverBudget,
    Refused,
)
from bise_daemon import server as server_module
from bise_daemon.deadline import usable_ms
from bise_daemon.memory.fit import reserve_bytes
from bise_daemon.memory.governor import Rules
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Reading
from bise_daemon.models import model as model_module
from bise_daemon.models.model import load_model
from bise_daemon.socket_lock import AddressInUseError
from bise_proto.bundle import BundleError, read_manifest
from bise_proto.v1 import inference_pb2, inference_pb2_grpc
from running import RunningDaemon, SimulatedMemory, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemon(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with running(tiny_bundle, tmp_path_factory.mktemp("daemon"), slots=4, max_message_bytes=65536) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(daemon.address) as client:
        client.wait_until_serving()
        yield client


def settled(client: Client) -> None:
    """Waits until no request holds a slot; the watch yields without our sleeping."""
    for status in client.watch_status(interval=0.1, timeout=30):
        if status.slots_used == 0 and status.queued == 0:
            return
    raise AssertionError("slots stayed in use")


def test_an_answer_has_the_length_asked_for(client: Client) -> None:
    result = client.generate("Once upon a time", max_tokens=12, ignore_eos=True)
    assert result.finish_reason is FinishReason.LENGTH
    assert len(result.token_ids) == 12
    assert result.usage.completion_tokens == 12


def test_a_stream_gives_the_same_answer_in_pieces(client: Client) -> None:
    whole = client.chat("Hello", max_tokens=20, ignore_eos=True)
    with client.stream_chat("Hello", max_tokens=20, ignore_eos=True) as stream:
        pieces = [delta.text for delta in stream]
    assert "".join(pieces) == whole.text
    assert stream.result.token_ids == whole.token_ids


@pytest.mark.parametrize("max_wait", [None, 0.001])
@pytest.mark.parametrize("unit", ["clause", "sentence"])
def test_phrases_are_the_same_answer(client: Client, unit: Any, max_wait: float | None) -> None:
    options: Any = {"max_tokens": 60, "ignore_eos": True, "logprobs": True}
    whole = client.chat("Hello", **options)
    with client.stream_chat("Hello", chunking=unit, max_wait=max_wait, **options) as stream:
        phrases = list(stream)
    assert (stream.result.text, stream.result.token_ids) == (whole.text, whole.token_ids)
    assert stream.result.logprobs == whole.logprobs
    assert all(phrase.text for phrase in phrases[:-1])
    assert len(phrases) < 60


def test_without_a_limit_an_answer_may_fill_the_context(client: Client) -> None:
    with client.stream_generate([5, 6, 7], ignore_eos=True) as stream:
        assert stream.accepted.granted_max_tokens == stream.accepted.context_limit - 3
        result = stream.finish()
    assert result.finish_reason is FinishReason.LENGTH
    assert result.usage.completion_tokens == stream.accepted.context_limit - 3


def test_a_prompt_that_fills_the_context_but_one_still_runs(client: Client) -> None:
    limit = client.status().context_limit
    result = client.generate([5] * (limit - 1), ignore_eos=True)
    assert result.usage.completion_tokens == 1


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 7, "top_p": 0.9}])
def test_neighbours_change_no_token(client: Client, sampling: dict[str, float]) -> None:
    prompts = [[5 + place, 9, 31 + place] * (place + 1) for place in range(8)]
    alone = [client.generate(each, max_tokens=30, ignore_eos=True, **sampling).token_ids for each in prompts]
    together: dict[int, tuple[int, ...]] = {}

    def ask(place: int) -> None:
        result = client.generate(prompts[place], max_tokens=30, ignore_eos=True, **sampling)
        together[place] = result.token_ids

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(8)] == alone


def test_a_seed_that_was_drawn_can_be_used_again(client: Client) -> None:
    with client.stream_generate("Hi", max_tokens=16, temperature=2.0, ignore_eos=True) as stream:
        seed = stream.accepted.seed
        first = stream.finish()
    again = client.generate("Hi", max_tokens=16, temperature=2.0, ignore_eos=True, seed=seed)
    assert again.token_ids == first.token_ids


def test_logprobs_describe_the_choice(client: Client) -> None:
    result = client.generate("Hi", max_tokens=4, logprobs=True, top_logprobs=3, ignore_eos=True)
    assert [each.token_id for each in result.logprobs] == list(result.token_ids)
    for each in result.logprobs:
        assert each.top[0].token_id == each.token_id  # greedy
        assert [other.logprob for other in each.top] == sorted((other.logprob for other in each.top), reverse=True)


def test_a_stop_string_ends_the_answer_before_it(client: Client) -> None:
    text = client.generate("Hi", max_tokens=40, ignore_eos=True).text
    stop = text[5:9]
    stopped = client.generate("Hi", max_tokens=40, ignore_eos=True, stop=[stop])
    assert stopped.finish_reason is FinishReason.STOP_SEQUENCE
    assert stopped.text == text[: text.index(stop)]


def test_leaving_a_stream_frees_its_slot(client: Client) -> None:
    before = client.status().requests_cancelled
    with client.stream_generate("Hi", ignore_eos=True) as stream:
        next(iter(stream))
    settled(client)
    assert client.status().requests_cancelled == before + 1


# What a step takes may change fourfold from one call to the next where neighbours come and go.
_TRIES = 8


def test_a_budget_is_promised_with_as_many_tokens_as_it_has_time_for(client: Client) -> None:
    granted = []
    for _ in range(_TRIES):
        alone = client.generate([5, 6, 7], ignore_eos=True)
        allowed_ms = alone.accepted.predicted_total_ms / 4
        with (
            suppress(OverBudget),
            client.stream_generate([5, 6, 7], ignore_eos=True, timeout=allowed_ms / 1e3) as stream,
        ):
            accepted = stream.accepted
            result = stream.finish()
            granted.append(accepted.granted_max_tokens)
            assert accepted.predicted_first_token_ms <= accepted.predicted_total_ms <= allowed_ms + 1
            assert result.token_ids == alone.token_ids[: len(result.token_ids)]
            if 1 <= granted[-1] < alone.accepted.granted_max_tokens:
                return
    pytest.fail(f"expected fewer tokens in a quarter of the time, got {granted}")


@pytest.mark.parametrize(
    ("budget", "missed"),
    [
        ({"timeout": 0.001}, "total_ms"),
        ({"first_token_timeout": 0.001}, "first_token_ms"),
        ({"timeout": 60, "first_token_timeout": 0.001}, "first_token_ms"),
    ],
    ids=["total", "first token", "first token of both"],
)
def test_a_budget_that_cannot_be_kept_is_refused_with_the_numbers(
    client: Client, budget: dict[str, float], missed: str
) -> None:
    before = client.status()
    with pytest.raises(OverBudget) as refusal:
        client.generate(list(range(60, 310)), max_tokens=6, ignore_eos=True, **budget)  # new to this daemon
    numbers = refusal.value.numbers
    assert refusal.value.reason == "BUDGET"
    assert numbers["missed"] == missed
    assert float(numbers["budget_ms"]) == 1
    assert float(numbers["needed_ms"]) > 1
    assert refusal.value.retry_after_s is None  # it would not fit on an idle device either
    after = client.status()
    assert after.refusals["BUDGET"] == before.refusals.get("BUDGET", 0) + 1
    assert after.prompt_tokens == before.prompt_tokens


def test_what_is_wrong_is_told_before_what_there_is_no_time_for(daemon: RunningDaemon) -> None:
    budget = inference_pb2.Budget(total_ms=1)
    request = inference_pb2.GenerateRequest(prompt="Hi", options=inference_pb2.Options(stop=[""], budget=budget))
    with grpc.insecure_channel(daemon.address) as channel, pytest.raises(grpc.RpcError) as refusal:
        list(inference_pb2_grpc.InferenceStub(channel).Generate(request, timeout=60))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("remaining_ms", "step_ms", "usable"),
    [(100.0, 50.0, 30.0), (60_000.0, 50.0, 59_500.0), (10_000.0, 50.0, 9_900.0), (60_000.0, 700.0, 59_280.0)],
    ids=["a step", "patience", "a hundredth", "a long step"],
)
def test_an_answer_ends_before_its_call(remaining_ms: float, step_ms: float, usable: float) -> None:
    assert usable_ms(remaining_ms, step_ms) == usable


def test_fewer_tokens_than_the_least_wanted_are_refused(client: Client) -> None:
    for _ in range(_TRIES):
        alone = client.generate([5, 6, 7], ignore_eos=True)
        allowed_s = alone.accepted.predicted_total_ms / 4e3
        try:
            client.generate([5, 6, 7], ignore_eos=True, timeout=allowed_s, min_granted_tokens=250)
        except OverBudget as error:
            refusal = error
            break
    else:
        pytest.fail("expected a refusal of 250 tokens in a quarter of their time, got none")
    assert refusal.numbers["min_granted_tokens"] == 250


@pytest.fixture(scope="module")
def prudent(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon that expects a step to take up to a minute, and so ends an answer a minute before its call's deadline;
    what a call allows beyond that is its time, however slow this machine is just now."""
    with running(tiny_bundle, tmp_path_factory.mktemp("prudent"), slots=1, step_ms=59_960) as daemon:
        with Client(daemon.address) as client:
            client.wait_until_serving()
        yield daemon.address


def ends_at_its_deadline(address: str, left_s: float, **options: Any) -> list[inference_pb2.GenerateResponse]:
    """The messages of an answer that has `left_s` to come; the call itself never times out."""
    request = inference_pb2.GenerateRequest(
        token_ids=inference_pb2.TokenIds(ids=[5, 6, 7]), options=inference_pb2.Options(ignore_eos=True, **options)
    )
    # Beside the step, 20 ms are kept back. gRPC rounds so long a time up to whole tenths of a second: 59.95 s to 60.
    with grpc.insecure_channel(address) as channel:
        return list(inference_pb2_grpc.InferenceStub(channel).Generate(request, timeout=59.93 + left_s))


def test_the_calls_own_deadline_brings_back_what_there_is(prudent: str) -> None:
    accepted, *deltas, done = ends_at_its_deadline(prudent, 0.02)
    assert accepted.accepted.granted_max_tokens == 253
    assert done.done.finish_reason == inference_pb2.DEADLINE
    tokens = [token for delta in deltas for token in delta.delta.token_ids]
    assert done.done.usage.completion_tokens == len(tokens) < 253
    with Client(prudent) as client:
        assert tuple(tokens) == client.generate([5, 6, 7], ignore_eos=True).token_ids[: len(tokens)]
        assert client.status().requests_expired > 0


def test_without_time_an_answer_is_empty(prudent: str) -> None:
    *_, done = ends_at_its_deadline(prudent, -1)
    assert done.done.finish_reason == inference_pb2.DEADLINE
    assert done.done.usage.completion_tokens == 0


def test_an_answer_that_must_be_whole_fails_instead(prudent: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        ends_at_its_deadline(prudent, 0.02, on_expiry=inference_pb2.FAIL)
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failure.value.details().startswith("the budget ended after ")


def test_a_prompt_too_long_is_refused_with_the_counts(client: Client) -> None:
    limit = client.status().context_limit
    with pytest.raises(ContextOverflow) as refusal:
        client.generate([5] * limit)
    assert refusal.value.numbers["prompt_tokens"] == limit
    assert refusal.value.numbers["context_limit"] == limit


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ([], {}, "EMPTY_PROMPT"),
        ([5, 320], {}, "INVALID_TOKEN_ID"),
        ([2**32 - 1], {}, "INVALID_TOKEN_ID"),
        ("Hi", {"max_tokens": 0}, "INVALID_OPTION"),
        ("Hi", {"temperature": -1.0}, "INVALID_OPTION"),
        ("Hi", {"top_p": 0.0}, "INVALID_OPTION"),
        ("Hi", {"stop": [""]}, "INVALID_OPTION"),
        ("Hi", {"logit_bias": {320: 1.0}}, "INVALID_OPTION"),
        ("Hi", {"top_logprobs": 21, "logprobs": True}, "INVALID_OPTION"),
        ("x" * 70_000, {}, "MESSAGE_TOO_LARGE"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    client: Client, prompt: object, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        client.generate(prompt, **options)  # type: ignore[arg-type]
    assert refusal.value.reason == reason
    settled(client)


@pytest.mark.parametrize("messages", [[], [{"role": "robot", "content": "x"}], [{"role": "assistant", "content": "x"}]])
def test_bad_messages_name_the_field(client: Client, messages: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        client.chat(messages)
    assert refusal.value.reason == "INVALID_MESSAGE"


def test_a_message_beyond_the_transport_is_refused_too(client: Client) -> None:
    with pytest.raises((InvalidRequest, Refused)):
        client.generate("x" * 1_000_000)


def test_tokens_are_counted_as_they_would_be_served(client: Client) -> None:
    counted = client.count_tokens([{"role": "user", "content": "Hello"}])
    with client.stream_chat("Hello", max_tokens=1) as stream:
        assert stream.accepted.prompt_tokens == counted.count
    assert "Hello" in counted.rendered


def test_health_is_told_for_each_service(client: Client, daemon: RunningDaemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "bise.v1.Inference", "bise.v1.Device"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_services_can_be_discovered(client: Client, daemon: RunningDaemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {each.name for each in next(answers).list_services_response.service}
    assert {"bise.v1.Inference", "bise.v1.Device", "grpc.health.v1.Health"} <= names


def test_status_counts(client: Client) -> None:
    before = client.status()
    client.generate([5] * 10, max_tokens=5, ignore_eos=True)
    settled(client)
    after = client.status()
    assert after.requests_finished == before.requests_finished + 1
    # What an earlier test left in the cache is not computed again.
    found = after.cached_tokens - before.cached_tokens
    assert after.prompt_tokens == before.prompt_tokens + 10 - found
    assert after.completion_tokens == before.completion_tokens + 5
    assert after.kv_used_bytes == 0


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, slots=1, max_queue=1) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        with client.stream_generate("a", ignore_eos=True), client.stream_generate("b", ignore_eos=True):
            with pytest.raises(Refused) as refusal:
                client.generate("c")
            assert refusal.value.reason == "QUEUE_FULL"
            assert refusal.value.retry_after_s is not None


def test_draining_lets_answers_end_and_takes_no_new_ones(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, slots=2) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        with client.stream_generate("a", max_tokens=200, ignore_eos=True) as stream:
            deltas = iter(stream)
            next(deltas)
            daemon.stop()
            assert list(deltas)
            result = stream.result
        assert result.usage.completion_tokens == 200
        daemon.ended.result(30)
        with pytest.raises(DaemonUnavailable):
            client.generate("b", timeout=2)


def test_while_loading_requests_are_told_to_wait(tiny_bundle: Path, tmp_path: Path) -> None:
    asked = threading.Event()

    def load_late(config: object, loading: object) -> object:
        assert asked.wait(30)
        return load_model(config)  # type: ignore[arg-type]

    with running(tiny_bundle, tmp_path, load=load_late) as daemon, Client(daemon.address) as client:
        with pytest.raises(Refused) as refusal:
            client.generate("a")
        assert refusal.value.reason == "LOADING"
        assert client.status().state == "loading"
        asked.set()
        client.wait_until_serving()
        assert client.generate("a", max_tokens=2, ignore_eos=True).usage.completion_tokens == 2


def test_two_daemons_do_not_share_a_socket(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path) as first, Client(first.address) as client:
        client.wait_until_serving()
        with pytest.raises(AddressInUseError), running(tiny_bundle, tmp_path):
            pass
        assert client.generate("a", max_tokens=1).usage.completion_tokens == 1


def test_a_flipped_byte_is_never_served(tiny_bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer").mkdir()
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            (broken / path.relative_to(tiny_bundle)).write_bytes(path.read_bytes())
    data = bytearray((broken / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (broken / "model.onnx.data").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx\.data: expected sha256"), running(broken, tmp_path) as daemon:
        daemon.ended.result(30)


def test_memory_that_was_short_at_the_start_counts_when_it_is_back(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    memory = SimulatedMemory(reserve_bytes(0) + 150 * bytes_per_token)
    readings = iter([Reading(1 << 40, 0, 0, 0), memory.read()])
    monkeypatch.setattr(model_module, "read_memory", lambda: next(readings))
    monkeypatch.setattr(server_module, "Rules", partial(Rules, hold_ms=300))
    with (
        running(tiny_bundle, tmp_path, memory.load, memory.read, slots=2) as daemon,
        Client(daemon.address) as client,
    ):
        client.wait_until_serving()
        assert client.status().context_limit == 128
        memory.free_bytes = 1 << 30
        for status in client.watch_status(interval=0.1, timeout=30):
            if status.context_limit == 256:
                break
        with client.stream_generate([5, 6, 7], ignore_eos=True) as stream:
            assert stream.accepted.granted_max_tokens == 253
        assert client.generate([5] * 200, max_tokens=50, ignore_eos=True).usage.completion_tokens == 50
        # All that one context holds may be kept again: at least the last prompt and its answer but for one token.
        for status in client.watch_status(interval=0.1, timeout=30):
            if status.kv_idle_bytes >= 249 * bytes_per_token:
                break


def test_a_named_prefix_that_memory_took_comes_back_with_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    memory = SimulatedMemory(1 << 30)
    monkeypatch.setattr(server_module, "Rules", partial(Rules, hold_ms=300))
    prefix = "The quick brown fox jumps over the lazy dog."
    settings = {"prefixes": [{"name": "fox", "prompt": prefix}], "state_dir": str(tmp_path / "state")}
    with (
        running(tiny_bundle, tmp_path, memory.load, memory.read, slots=2, **settings) as daemon,
        Client(daemon.address) as client,
    ):
        client.wait_until_serving()
        tokens = client.count_tokens(prefix).count
        for free_bytes, idle_tokens in ((1 << 30, tokens), (reserve_bytes(0) // 2, 0), (1 << 30, tokens)):
            memory.free_bytes = free_bytes
            for status in client.watch_status(interval=0.1, timeout=30):
                if status.kv_idle_bytes == idle_tokens * bytes_per_token:
                    break
        assert client.generate(prefix + " And again.", max_tokens=1).usage.cached_tokens >= tokens - 1


def test_a_governor_that_cannot_read_memory_ends_the_daemon_after_its_drain(tiny_bundle: Path, tmp_path: Path) -> None:
    failing = threading.Event()

    def read() -> Reading:
        if failing.is_set():
            raise OSError("/proc is gone")
        return read_memory()

    def ask() -> None:
        with running(tiny_bundle, tmp_path, read=read) as daemon, Client(daemon.address) as client:
            client.wait_until_serving()
            with client.stream_generate([5, 6, 7], ignore_eos=True) as stream:
                failing.set()
                assert stream.finish().usage.completion_tokens == 253
            daemon.ended.exception(30)

    with pytest.raises(OSError, match="/proc is gone"):
        ask()
    assert not (tmp_path / "bise.sock").exists()
