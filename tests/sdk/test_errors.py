from __future__ import annotations

import pickle

import pytest

from bise import Client
from bise.errors import (
    BiseError,
    Cancelled,
    ContextOverflow,
    DaemonError,
    DaemonUnavailable,
    DeadlineExceeded,
    InvalidRequest,
    LowMemory,
    OverBudget,
    Refused,
    Unsupported,
)
from bise.rpc_error import BY_REASON
from bise.testing import Answer, FakeDaemon

NUMBERS = {"field": "x", "limit": 3, "share": 0.5}


@pytest.mark.parametrize("reason", BY_REASON)
def test_each_reason_of_the_daemon_has_its_error(reason: str) -> None:
    # Whatever code it comes with: INTERNAL here.
    sent = BiseError(f"no: {reason}", reason=reason, numbers=NUMBERS, retry_after_s=1.5)
    with FakeDaemon([sent]) as daemon, Client(daemon.address) as client, pytest.raises(BiseError) as caught:
        client.chat("Hi")
    assert type(caught.value) is BY_REASON[reason]
    assert str(caught.value) == f"no: {reason}"
    assert caught.value.reason == reason
    assert caught.value.numbers == NUMBERS
    assert caught.value.retry_after_s == 1.5


@pytest.mark.parametrize(
    "kind", [Cancelled, DaemonError, DaemonUnavailable, DeadlineExceeded, InvalidRequest, Refused, Unsupported]
)
def test_a_reason_not_known_yet_is_told_by_its_code(kind: type[BiseError]) -> None:
    with (
        FakeDaemon([kind("no", reason="NEWER")]) as daemon,
        Client(daemon.address) as client,
        pytest.raises(BiseError, match="no") as caught,
    ):
        client.generate("Hi")
    assert type(caught.value) is kind
    assert caught.value.reason == "NEWER"
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(("kind", "reason"), [(OverBudget, "BUDGET"), (LowMemory, "MEMORY")])
def test_a_refusal_says_what_is_short_and_when_to_try_again(kind: type[Refused], reason: str) -> None:
    sent = kind("no", numbers={"predicted_first_token_ms": 900.5, "first_token_ms": 300}, retry_after_s=2.25)
    with FakeDaemon([sent]) as daemon, Client(daemon.address) as client, pytest.raises(Refused) as caught:
        client.chat("Hi", first_token_timeout=0.3)
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert caught.value.numbers == {"predicted_first_token_ms": 900.5, "first_token_ms": 300}
    assert caught.value.retry_after_s == 2.25


def test_a_budget_that_never_fits_has_no_time_to_try_again() -> None:
    with (
        FakeDaemon([OverBudget("no")]) as daemon,
        Client(daemon.address) as client,
        pytest.raises(OverBudget) as caught,
    ):
        client.chat("Hi", timeout=1)
    assert caught.value.retry_after_s is None


def test_a_failure_half_way_carries_the_text_so_far() -> None:
    answer = Answer("half an", error=DaemonError("the engine ended", reason="ENGINE_FAILED"))
    with (
        FakeDaemon([answer]) as daemon,
        Client(daemon.address) as client,
        pytest.raises(DaemonError, match="the engine ended") as caught,
    ):
        client.chat("Hi")
    assert caught.value.partial == "half an"


def test_nobody_there_names_the_address_and_the_next_step() -> None:
    with (
        Client("unix:///nonexistent/bise.sock") as client,
        pytest.raises(DaemonUnavailable, match=r"unix:///nonexistent/bise\.sock: there is no such socket"),
    ):
        client.status()


def test_a_message_over_grpcs_own_limit_is_an_invalid_request(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.generate("x" * (5 << 20))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_errors_are_also_the_builtin_ones_a_caller_may_know() -> None:
    assert issubclass(DaemonUnavailable, ConnectionError)
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(ContextOverflow, InvalidRequest)
    assert issubclass(OverBudget, Refused)
    assert issubclass(LowMemory, Refused)


@pytest.mark.parametrize("kind", [Refused, OverBudget, DaemonUnavailable, DeadlineExceeded, ContextOverflow])
def test_errors_cross_processes(kind: type[BiseError]) -> None:
    sent = kind("no", reason="R", numbers={"n": 1}, retry_after_s=2.0, partial="half")
    got = pickle.loads(pickle.dumps(sent))
    assert type(got) is kind
    assert str(got) == "no"
    assert vars(got) == vars(sent)
