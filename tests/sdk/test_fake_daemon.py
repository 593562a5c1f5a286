from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise import Client, DaemonError, FinishReason
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
