from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise import (
    BiseError,
    Client,
    ContextOverflow,
    DaemonError,
    DeadlineExceeded,
    FinishReason,
    LowMemory,
    OverBudget,
    Refused,
)
from bise.testing import Answer, FakeDaemon
from bise.testing.script import tokenize


def test_answers_come_in_order_and_run_out_loudly() -> None:
    with FakeDaemon(["one", "two"]) as daemon, Client(daemon.address) as client:
        assert [client.chat("Hi").text for _ in range(2)] == ["one", "two"]
        with pytest.raises(DaemonError, match="script has 2 answers, and this is request 3"):
            client.chat("Hi")


def test_a_script_may_go_on_for_ever() -> None:
    with FakeDaemon(cycle(["a", "b"])) as daemon, Client(daemon.address) as client:
        assert [client.chat("Hi").text for _ in range(4)] == ["a", "b", "a", "b"]


def test_tokens_can_be_given_one_by_one_and_may_split_anywhere() -> None:
    answer = Answer(["Hel", "lo ", "🌬️"], finish_reason=FinishReason.STOP_SEQUENCE)
    with FakeDaemon([answer]) as daemon, Client(daemon.address) as client:
        result = client.chat("Hi")
    assert result.text == "Hello 🌬️"
    assert result.usage.completion_tokens == 3
    assert result.finish_reason is FinishReason.STOP_SEQUENCE


def test_requests_are_recorded_in_the_words_of_the_options() -> None:
    with FakeDaemon() as daemon, Client(daemon.address) as client:
        client.chat(
            "Hi",
            timeout=4,
            first_token_timeout=0.3,
            per_token_timeout=0.05,
            min_granted_tokens=8,
            priority="background",
            on_expiry="fail",
            on_overflow="truncate_oldest",
        )
        client.chat("Hi", priority="interactive", on_expiry="partial", on_overflow="error")
    full, bare = daemon.requests
    assert full.options == {
        "min_granted_tokens": 8,
        "priority": "background",
        "on_expiry": "fail",
        "on_overflow": "truncate_oldest",
    }
    assert (full.total_ms, full.first_token_ms, full.per_token_ms) == (4000, 300, 50)
    assert bare.options == {}
    assert (bare.total_ms, bare.first_token_ms, bare.per_token_ms) == (0, 0, 0)


def test_an_error_with_a_reason_of_its_own_arrives_as_itself() -> None:
    errors = [OverBudget("no"), LowMemory("no"), ContextOverflow("no"), DeadlineExceeded("no"), Refused("no")]
    with FakeDaemon(errors) as daemon, Client(daemon.address) as client:
        for error in errors:
            with pytest.raises(BiseError) as caught:
                client.chat("Hi")
            assert type(caught.value) is type(error)


def test_stopping_takes_the_socket_away_and_can_be_repeated() -> None:
    daemon = FakeDaemon()
    path = Path(daemon.address.removeprefix("unix://"))
    with daemon:
        assert path.is_socket()
    assert not path.parent.exists()
    daemon.stop()


@pytest.mark.slow
@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text
