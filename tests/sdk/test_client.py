from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bise import (
    Accepted,
    Cancelled,
    Client,
    FinishReason,
    Health,
    InvalidRequest,
    MemoryLevel,
    Message,
    PredictionError,
    State,
    Status,
    Usage,
)
from bise.errors import ContextOverflow, DaemonUnavailable, DeadlineExceeded
from bise.testing import Answer, FakeDaemon, Gate
from bise.testing.script import token_id


def test_chat_returns_the_whole_answer(client: Client, daemon: FakeDaemon) -> None:
    result = client.chat("Hi", seed=7)
    assert result.text == "Hello there"
    assert result.finish_reason is FinishReason.STOP
    assert result.usage.completion_tokens == 2
    assert result.usage.total_tokens == result.usage.prompt_tokens + 2
    assert result.token_ids == (token_id("Hello"), token_id(" there"))
    assert result.logprobs == ()
    assert result.accepted.seed == 7
    assert result.accepted.context_limit == 2048
    assert result.timings.total_ms >= result.timings.first_token_ms > 0
    (request,) = daemon.requests
    assert request.method == "Chat"
    assert request.messages == (Message("user", "Hi"),)
    assert request.options == {"seed": 7}
    assert request.total_ms == 10_000


def test_messages_are_dicts_or_message_objects(client: Client, daemon: FakeDaemon) -> None:
    client.chat([{"role": "system", "content": "Be brief."}, Message("user", "Hi")])
    assert daemon.requests[0].messages == (Message("system", "Be brief."), Message("user", "Hi"))


@pytest.mark.parametrize(
    "message",
    [{"role": "user"}, {"role": "user", "content": "x", "nickname": "y"}, {"role": "user", "content": 3}, 3, "a"],
)
def test_a_message_of_another_form_is_refused_by_its_place(client: Client, message: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^messages\[1\]: expected .*, got "):
        client.chat([Message("user", "Hi"), message])


def test_generate_takes_a_text_or_token_ids(client: Client, daemon: FakeDaemon) -> None:
    client.generate("Once upon", max_tokens=1)
    client.generate([1, 2, 3])
    text, ids = daemon.requests
    assert (text.method, text.prompt, text.options) == ("Generate", "Once upon", {"max_tokens": 1})
    assert (ids.prompt, ids.token_ids) == ("", (1, 2, 3))


@pytest.mark.parametrize("prompt", ["\ud800", [-1], [2**32], ["a"], 3])
def test_a_prompt_that_can_not_be_encoded_is_refused(client: Client, prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^prompt: expected .*, got "):
        client.generate(prompt)


def test_log_probabilities_come_with_each_token(client: Client) -> None:
    result = client.generate("Hi", top_logprobs=2)
    assert [entry.token for entry in result.logprobs] == [b"Hello", b" there"]
    assert [entry.token_id for entry in result.logprobs] == list(result.token_ids)
    assert [len(entry.top) for entry in result.logprobs] == [2, 2]


def test_max_tokens_ends_an_answer_by_length(client: Client) -> None:
    assert client.chat("Hi", max_tokens=1).finish_reason is FinishReason.LENGTH


def test_a_prompt_over_the_context_limit_is_refused_with_the_counts() -> None:
    with (
        FakeDaemon(status=Status(context_limit=4)) as daemon,
        Client(daemon.address) as client,
        pytest.raises(ContextOverflow) as caught,
    ):
        client.generate("one two three four five")
    assert caught.value.numbers == {"prompt_tokens": 5, "context_limit": 4}


@pytest.mark.parametrize(
    ("of_the_client", "of_the_call", "total_ms"), [(None, None, 0), (8, None, 8_000), (8, 3, 3_000), (None, 3, 3_000)]
)
def test_only_a_timeout_that_somebody_gave_is_stated_as_a_budget(
    daemon: FakeDaemon, of_the_client: float | None, of_the_call: float | None, total_ms: int
) -> None:
    with Client(daemon.address, timeout=of_the_client) as client:
        client.chat("Hi", timeout=of_the_call)
        client.generate("Hi", timeout=of_the_call)
    assert [request.total_ms for request in daemon.requests] == [total_ms, total_ms]


def test_every_generation_has_a_deadline_even_when_nothing_is_stated(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bise.options.DEFAULT_TIMEOUT_S", 0.01)
    monkeypatch.setattr("bise.aio._GRACE_S", 0.01)
    monkeypatch.setattr("bise.testing.script.OpenGate.take", lambda self, gone, until: gone.wait() and False)
    with Client(daemon.address) as client, pytest.raises(DeadlineExceeded, match="did not answer in time"):
        client.chat("Hi")


def test_what_was_granted_and_predicted_is_told() -> None:
    answer = Answer(
        "one two three",
        most_granted_tokens=2,
        predicted_first_token_ms=120.5,
        predicted_total_ms=300.25,
        cached_tokens=3,
        dropped_messages=2,
        dropped_tokens=4,
        draft_tokens=8,
        accepted_draft_tokens=6,
    )
    with FakeDaemon([answer], status=Status(context_limit=9)) as daemon, Client(daemon.address) as client:
        result = client.generate("a b c d e f g h i j", max_tokens=5)
    assert result.accepted == Accepted(
        request_id="fake-1",
        prompt_tokens=6,
        granted_max_tokens=2,
        context_limit=9,
        seed=0,
        predicted_first_token_ms=120.5,
        predicted_total_ms=300.25,
        cached_tokens=3,
        dropped_messages=2,
        dropped_tokens=4,
    )
    assert result.usage == Usage(6, 2, cached_tokens=3, draft_tokens=8, accepted_draft_tokens=6)
    assert (result.text, result.finish_reason) == ("one two", FinishReason.LENGTH)


def test_time_running_out_returns_the_answer_so_far(gated_client: Client, gate: Gate) -> None:
    gate.open(2)
    result = gated_client.chat("Hi", timeout=0.1)
    assert (result.text, result.finish_reason) == ("one two", FinishReason.DEADLINE)


def test_time_running_out_fails_when_asked_to(gated_client: Client, gate: Gate) -> None:
    gate.open(2)
    with pytest.raises(DeadlineExceeded) as caught:
        gated_client.chat("Hi", timeout=0.1, on_expiry="fail")
    assert caught.value.reason == "DEADLINE"
    assert caught.value.partial == "one two"


@pytest.mark.slow
def test_a_daemon_that_ignores_the_budget_meets_the_connections_own_deadline(
    gated_daemon: FakeDaemon, gated_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "take", lambda self, gone, until: gone.wait() and False)
    with pytest.raises(DeadlineExceeded, match="did not answer in time"):
        gated_client.chat("Hi", timeout=0.05)
    assert gated_daemon.requests[0].cancelled.wait(5)


def test_count_tokens_of_a_prompt_and_of_messages(client: Client) -> None:
    count = client.count_tokens("one two three")
    assert (count.count, count.rendered, count.context_limit) == (3, "one two three", 2048)
    assert count.token_ids == tuple(map(token_id, ("one", " two", " three")))
    assert client.count_tokens([Message("user", "Hi")]).rendered == "user: Hi\n"


def test_status_has_every_field() -> None:
    told = Status(
        state=State.DRAINING,
        model="m",
        load_ms=1.5,
        context_limit=9,
        peak_rss_bytes=2**40,
        steps=3,
        memory_level=MemoryLevel.TIGHT,
        memory_pressure_some=0.25,
        refusals={"BUDGET": 3, "QUEUE_FULL": 1},
        budgets_met=7,
        first_token_error=PredictionError(0.125, 0.25, 40),
        requests_expired=2,
        specialised=True,
    )
    with FakeDaemon(status=told) as daemon, Client(daemon.address) as client:
        assert client.status() == told


@pytest.mark.parametrize("level", MemoryLevel)
def test_each_memory_level_is_told(level: MemoryLevel) -> None:
    with FakeDaemon(status=Status(memory_level=level)) as daemon, Client(daemon.address) as client:
        assert client.status().memory_level is level


def test_watching_the_status_sees_it_change_and_leaving_ends_it(daemon: FakeDaemon, client: Client) -> None:
    seen = []
    for status in client.watch_status(interval=60):
        seen.append(status.state)
        if status.state is State.DRAINING:
            break
        daemon.set_status(Status(state=State.DRAINING))
    assert seen == [State.SERVING, State.DRAINING]


def test_watching_repeats_at_its_interval(client: Client) -> None:
    assert len(list(islice(client.watch_status(interval=0.1), 2))) == 2


@pytest.mark.parametrize("interval", [0, 0.09, 61, float("nan")])
def test_an_interval_has_bounds(client: Client, interval: float) -> None:
    with pytest.raises(InvalidRequest, match=r"interval: expected 0\.1 to 60 seconds"):
        next(iter(client.watch_status(interval=interval)))


@pytest.mark.parametrize("health", Health)
def test_health_is_told(health: Health) -> None:
    with FakeDaemon(health=health) as daemon, Client(daemon.address) as client:
        assert client.health() is health


def test_waiting_ends_when_the_daemon_serves() -> None:
    with (
        FakeDaemon(health=Health.NOT_SERVING) as daemon,
        Client(daemon.address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.wait_until_serving, timeout=10)
        daemon.set_health(Health.SERVING)
        assert waiting.result() is Health.SERVING


@pytest.mark.slow
def test_waiting_in_vain_tells_the_last_health() -> None:
    with FakeDaemon(health=Health.NOT_SERVING) as daemon, Client(daemon.address) as client:
        client.health()  # connected: what follows takes no time
        assert client.wait_until_serving(timeout=0.3) is Health.NOT_SERVING


def test_waiting_for_nobody_fails() -> None:
    with (
        Client("unix:///nonexistent/bise.sock") as client,
        pytest.raises(DaemonUnavailable, match="there is no such socket"),
    ):
        client.wait_until_serving(timeout=0.1)


@pytest.mark.slow
def test_waiting_outlasts_a_daemon_that_comes_late(tmp_path: Path) -> None:
    with Client(f"unix://{tmp_path / 'late to the party.sock'}") as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_until_serving, timeout=10)
        with pytest.raises(DaemonUnavailable):
            client.health()
        with FakeDaemon(address=client.address):
            assert waiting.result() is Health.SERVING


def test_threads_share_a_client_and_get_their_own_answers() -> None:
    def echo(text: str) -> str:
        # The order in which requests arrive is the order of the script: find ours by what was recorded.
        return client.generate(text).accepted.request_id

    texts = [f"prompt {number}" for number in range(24)]
    with FakeDaemon() as daemon, Client(daemon.address) as client, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(echo, texts))
        recorded = {f"fake-{number}": request.prompt for number, request in enumerate(daemon.requests, 1)}
    assert [recorded[request_id] for request_id in ids] == texts


def test_closing_twice_is_harmless_and_ends_the_thread(daemon: FakeDaemon) -> None:
    client = Client(daemon.address)
    client.chat("Hi")
    client.close()
    client.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "bise-client"]
    with pytest.raises(RuntimeError, match="the client is closed: make a new one"):
        client.chat("Hi")


def test_closing_cancels_what_another_thread_waits_for(
    gated_client: Client, gated_daemon: FakeDaemon, gate: Gate
) -> None:
    gate.open(1)
    reading = threading.Event()

    def read() -> None:
        for _ in stream:
            reading.set()

    with ThreadPoolExecutor(1) as pool:
        stream = gated_client.stream_chat("Hi")
        waiting = pool.submit(read)
        assert reading.wait(5)
        gated_client.close()
        with pytest.raises(Cancelled):
            waiting.result()
    assert gated_daemon.requests[0].cancelled.wait(5)


def test_ctrl_c_while_a_call_waits_cancels_it_in_the_daemon(ctrl_c_gate: Gate) -> None:
    with FakeDaemon([Answer("one", gate=ctrl_c_gate)]) as daemon, Client(daemon.address) as client:
        with pytest.raises(KeyboardInterrupt):
            client.chat("Hi")
        assert daemon.requests[0].cancelled.wait(5)


def test_a_client_nobody_closed_is_closed_when_collected(daemon: FakeDaemon) -> None:
    client = Client(daemon.address)
    client.chat("Hi")
    del client
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name == "bise-client"]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_a_process_that_never_closes_its_client_exits_quietly(daemon: FakeDaemon) -> None:
    code = """
import sys
from bise import Client
client = Client(sys.argv[1])
stream = client.stream_chat("Hi")
stream.__enter__()
print(client.chat("Hi").text)
"""
    ended = run_python(code, daemon.address)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Hello there\n", "")


@pytest.mark.slow
def test_a_forked_process_is_told_to_make_its_own_client(daemon: FakeDaemon) -> None:
    code = """
import os, sys
from bise import Client
client = Client(sys.argv[1])
client.health()
child = os.fork()
if not child:
    try:
        client.health()
    except RuntimeError as error:
        print(error, flush=True)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print(client.health())
"""
    ended = subprocess.run([sys.executable, "-c", code, daemon.address], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    told, health = ended.stdout.splitlines()
    assert told == "this client was made before the process forked: make a client in each process"
    assert health == "serving"


@pytest.mark.slow
def test_importing_bise_costs_no_grpc() -> None:
    code = "import bise, sys; print('grpc' in sys.modules); bise.Client; print('grpc' in sys.modules)"
    assert run_python(code).stdout.split() == ["False", "True"]


def test_every_public_name_can_be_had() -> None:
    import bise

    assert all(getattr(bise, name) is not None for name in bise.__all__)
    assert set(bise.__all__) <= set(dir(bise))
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        bise.Cleint  # noqa: B018


def test_answers_of_one_client_reuse_the_connection_after_errors() -> None:
    with (
        FakeDaemon([Answer("one"), DaemonUnavailable("gone", reason="X"), "two"]) as daemon,
        Client(daemon.address) as client,
    ):
        assert client.chat("a").text == "one"
        with pytest.raises(DaemonUnavailable):
            client.chat("b")
        assert client.chat("c").text == "two"
