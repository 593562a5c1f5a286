"""The whole road on the real model: exported, served over a unix socket, asked through the SDK."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bise import Client, FinishReason, Message, Result, Unsupported
from bise_export.pipeline import ExportOptions, export
from conftest import Quiet
from e2e.prompts import LENGTHS, QUESTIONS
from running import RunningDaemon, running

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

GOLDEN = Path(__file__).parents[1] / "golden" / "greedy.json"
CLIENTS = 8
REQUESTS = 200


@pytest.fixture(scope="module")
def daemon(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with running(smollm2_bundle, tmp_path_factory.mktemp("daemon"), context=2048, max_queue=512) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(daemon.address, timeout=120) as client:
        client.wait_until_serving(timeout=60)
        yield client


def test_a_model_that_was_not_trained_with_tools_says_so(client: Client) -> None:
    def capital(country: str) -> str:
        """The capital of a country."""
        raise AssertionError(country)

    with pytest.raises(Unsupported, match="a chat template without tools"):
        client.run_tools("What is the capital of France?", tools=[capital])


def test_an_answer_goes_on_from_a_text(client: Client) -> None:
    asked, begun = Message("user", "What is the capital of France?"), Message("assistant", "The capital of France is")
    shown = client.count_tokens([asked, begun], continue_final_message=True)
    assert shown.rendered.endswith("<|im_start|>assistant\nThe capital of France is")
    answer = client.chat([asked, begun], continue_final_message=True, max_tokens=8)
    assert answer.text.startswith(" Paris")
    assert answer.accepted.prompt_tokens == shown.count


def test_the_capital_of_france(client: Client) -> None:
    answer = client.chat("What is the capital of France?", max_tokens=64)
    assert "Paris" in answer.text
    assert answer.finish_reason is FinishReason.STOP


def test_in_float32_the_daemon_says_what_transformers_says(smollm2_gguf: Path, tmp_path: Path, quiet: Quiet) -> None:
    """64 of 64 greedy tokens on 5 prompts, recorded by tests/golden/make_greedy.py; the prompts' tokens agree too."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    export(smollm2_gguf, tmp_path / "fp32", ExportOptions(precision="fp32", verify=False), quiet)
    with running(tmp_path / "fp32", tmp_path, context=512, slots=2) as daemon, Client(daemon.address) as client:
        client.wait_until_serving(timeout=60)
        for case in golden["cases"]:
            messages = [{"role": "user", "content": case["question"]}]
            assert list(client.count_tokens(messages).token_ids) == case["prompt"]
            answer = client.chat(messages, max_tokens=golden["max_tokens"], ignore_eos=True)
            assert list(answer.token_ids) == case["token_ids"], case["question"]


def test_emoji_and_other_scripts_never_break(client: Client) -> None:
    with client.stream_chat("Repeat exactly: 🌬️ größer 東京 नमस्ते", max_tokens=48, temperature=1.2, seed=3) as stream:
        pieces = [delta.text for delta in stream]
    whole = "".join(pieces)
    assert whole == stream.result.text
    for piece in pieces:
        assert "\ufffd" not in piece or "\ufffd" in whole
        piece.encode("utf-8")


def test_a_long_prompt_is_answered_in_chunks(client: Client) -> None:
    text = "The wind blew over the lake. " * 180
    counted = client.count_tokens(text)
    assert counted.count > 1000
    answer = client.generate(text, max_tokens=4)
    assert answer.usage.prompt_tokens == counted.count


def test_eight_clients_lose_and_mix_up_nothing(daemon: RunningDaemon, client: Client) -> None:
    """Each answer equals its solo run; some are cancelled at random; no slot stays behind."""
    solo = {
        (question, length): client.chat(question, max_tokens=length, ignore_eos=True).token_ids
        for question in QUESTIONS
        for length in LENGTHS
    }
    wrong: list[str] = []
    finished: list[int] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        with Client(daemon.address, timeout=300) as mine:
            for _ in range(REQUESTS):
                question, length = chance.choice(QUESTIONS), chance.choice(LENGTHS)
                expected = solo[question, length]
                leave_after = chance.randrange(length) if chance.random() < 0.15 else None
                found = answered(mine, question, length, leave_after)
                if found != expected[: len(found)] or (leave_after is None and len(found) != length):
                    wrong.append(f"client {seed}: {question!r} x {length}: {found} is not {expected}")
                finished.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(finished) == CLIENTS * REQUESTS
    for status in client.watch_status(interval=0.1, timeout=30):
        if status.slots_used == 0:
            break
    assert status.queued == 0
    assert status.kv_used_bytes == 0
    assert status.requests_failed == 0


def answered(client: Client, question: str, length: int, leave_after: int | None) -> tuple[int, ...]:
    """The tokens of an answer, or of its beginning when it is left after so many."""
    found: list[int] = []
    with client.stream_chat(question, max_tokens=length, ignore_eos=True) as stream:
        for delta in stream:
            found += delta.token_ids
            if leave_after is not None and len(found) > leave_after:
                return tuple(found)
        result: Result = stream.result
    assert tuple(found) == result.token_ids
    return result.token_ids
