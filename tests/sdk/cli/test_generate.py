from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from bise import Refused
from bise.testing import Answer, FakeDaemon

Run = Callable[..., Result]


def test_the_text_goes_to_standard_output(run: Run, daemon: FakeDaemon) -> None:
    told = run("generate", "Once", "--address", daemon.address)
    assert (told.exit_code, told.stdout, told.stderr) == (0, "Hello there\n", "")
    assert daemon.requests[0].prompt == "Once"


def test_a_dash_reads_standard_input(run: Run, daemon: FakeDaemon) -> None:
    run("generate", "-", "-a", daemon.address, stdin="two\nlines")
    assert daemon.requests[0].prompt == "two\nlines"


def test_json_is_one_object_with_everything(run: Run, daemon: FakeDaemon) -> None:
    told = run("generate", "Once", "-a", daemon.address, "--json", "--logprobs")
    answer = json.loads(told.stdout)
    assert answer["text"] == "Hello there"
    assert answer["finish_reason"] == "stop"
    assert bytes(answer["logprobs"][1]["token"]) == b" there"
    assert answer["accepted"]["context_limit"] == 2048


def test_every_option_is_sent(run: Run, daemon: FakeDaemon) -> None:
    told = run(
        *("generate", "Once", "-a", daemon.address, "--max-tokens", "5", "--timeout", "2.5", "--fail-on-expiry"),
        *("--priority", "critical", "--first-token-timeout", "0.3", "--per-token-timeout", "0.05"),
        *("--stop", "a", "--stop", "b", "--ignore-eos", "--top-logprobs", "2", "--temperature", "0.5"),
        *("--top-p", "0.25", "--top-k", "3", "--min-p", "0.125", "--repetition-penalty", "1.5"),
        *("--presence-penalty", "0.75", "--frequency-penalty", "-0.5", "--seed", "7", "--logit-bias", "3=-1.5"),
    )
    assert told.exit_code == 0
    request = daemon.requests[0]
    assert (request.total_ms, request.first_token_ms, request.per_token_ms) == (2500, 300, 50)
    assert request.options == {
        "priority": "critical",
        "max_tokens": 5,
        "on_expiry": "fail",
        "stop": ["a", "b"],
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 3,
        "min_p": 0.125,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.75,
        "frequency_penalty": -0.5,
        "seed": 7,
        "logit_bias": {3: -1.5},
    }


def test_without_a_flag_no_budget_is_stated(run: Run, daemon: FakeDaemon) -> None:
    assert run("generate", "Once", "-a", daemon.address).exit_code == 0
    request = daemon.requests[0]
    assert (request.total_ms, request.first_token_ms, request.per_token_ms) == (0, 0, 0)
    assert request.options == {}


def test_timings_go_beside_the_answer_and_not_into_it(run: Run) -> None:
    with FakeDaemon([Answer("Hello", predicted_first_token_ms=112.4)]) as daemon:
        told = run("generate", "Once", "-a", daemon.address, "--timings")
    assert told.stdout == "Hello\n"
    assert told.stderr.startswith("1 tokens · first after ")
    assert "ms (112 predicted) · " in told.stderr


def test_another_priority_is_a_usage_error(run: Run, nobody: str) -> None:
    told = run("generate", "Once", "-a", nobody, "--priority", "urgent")
    assert told.exit_code == 2
    assert "'interactive', 'critical'" in told.stderr


@pytest.mark.parametrize("bias", ["3", "3=", "=1", "a=1", "3:1"])
def test_a_bias_of_another_form_is_a_usage_error(run: Run, nobody: str, bias: str) -> None:
    told = run("generate", "Once", "-a", nobody, "--logit-bias", bias)
    assert told.exit_code == 2
    assert "expected ID=BIAS" in told.stderr


def test_a_refusal_is_one_line(run: Run) -> None:
    with FakeDaemon([Refused("expected room in the queue,\ngot 64 of 64", reason="QUEUE_FULL")]) as daemon:
        told = run("generate", "Once", "-a", daemon.address)
    assert told.exit_code == 1
    assert told.stderr == "error: expected room in the queue, got 64 of 64\n"


def test_nobody_there_is_one_line(run: Run, nobody: str) -> None:
    told = run("generate", "Once", "-a", nobody)
    assert told.exit_code == 1
    assert told.stderr.startswith(f"error: no daemon answers at {nobody}")
    assert told.stderr.count("\n") == 1


def test_a_wrong_address_is_one_line(run: Run) -> None:
    told = run("generate", "Once", "-a", "http://box")
    assert told.exit_code == 1
    assert "expected unix:///path/to.sock or tcp://host:port, got 'http://box'" in told.stderr
