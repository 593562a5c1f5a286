from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bise import BiseError, Cancelled, Client, Refused
from bise.testing import FakeDaemon, Gate


def test_deltas_come_as_they_are_made(gated_client: Client, gate: Gate) -> None:
    with gated_client.stream_chat("Hi") as stream:
        assert stream.accepted.granted_max_tokens > 5
        assert not stream.done
        deltas = iter(stream)
        for expected in ("one", " two", " three", " four", " five"):
            gate.open()
            assert next(deltas).text == expected
        assert next(deltas, None) is None
    assert stream.done
    assert stream.result.text == stream.text == "one two three four five"


def test_a_whole_answer_is_not_cancelled(client: Client, daemon: FakeDaemon) -> None:
    with client.stream_chat("Hi") as stream:
        assert [delta.text for delta in stream] == ["Hello", " there"]
    assert daemon.requests[0].finished.wait(5)
    assert not daemon.requests[0].cancelled.is_set()


def test_leaving_the_with_cancels(gated_client: Client, gated_daemon: FakeDaemon) -> None:
    with gated_client.stream_chat("Hi"):
        pass
    assert gated_daemon.requests[0].cancelled.wait(5)


def test_leaving_the_for_cancels(gated_client: Client, gated_daemon: FakeDaemon, gate: Gate) -> None:
    gate.open(1)
    for delta in gated_client.stream_generate("Hi"):
        assert delta.text == "one"
        break
    assert gated_daemon.requests[0].cancelled.wait(5)


def test_an_exception_inside_cancels_and_passes(gated_client: Client, gated_daemon: FakeDaemon) -> None:
    with pytest.raises(ZeroDivisionError), gated_client.stream_chat("Hi"):
        1 / 0  # noqa: B018
    assert gated_daemon.requests[0].cancelled.wait(5)


def test_the_client_is_good_after_a_cancel(gated_client: Client) -> None:
    with gated_client.stream_chat("Hi"):
        pass
    assert gated_client.chat("Hi").text == "fine"


def test_a_refusal_is_raised_where_the_stream_is_entered() -> None:
    with (
        FakeDaemon([Refused("full", reason="QUEUE_FULL")]) as daemon,
        Client(daemon.address) as client,
        pytest.raises(Refused, match="full"),
        client.stream_chat("Hi"),
    ):
        raise AssertionError("the request was refused, yet the stream was entered")


def test_nothing_is_sent_before_the_stream_is_used(client: Client, daemon: FakeDaemon) -> None:
    stream = client.stream_chat("Hi")
    with pytest.raises(RuntimeError, match="not accepted yet"):
        stream.accepted  # noqa: B018
    with pytest.raises(RuntimeError, match="not whole"):
        stream.result  # noqa: B018
    assert daemon.requests == ()


def test_finish_reads_what_is_left(gated_client: Client, gate: Gate) -> None:
    gate.open(5)
    with gated_client.stream_chat("Hi") as stream:
        assert stream.finish().text == "one two three four five"
        assert stream.finish() is stream.result


def test_cancel_from_another_thread_ends_the_reading(gated_client: Client, gate: Gate) -> None:
    gate.open(1)
    first = threading.Event()

    def read() -> None:
        for _ in stream:
            first.set()

    with ThreadPoolExecutor(1) as pool, gated_client.stream_chat("Hi") as stream:
        reading = pool.submit(read)
        assert first.wait(5)
        stream.cancel()
        with pytest.raises(Cancelled) as caught:
            reading.result()
    assert caught.value.partial == "one"


def test_a_cancelled_stream_stays_cancelled(gated_client: Client, gated_daemon: FakeDaemon) -> None:
    stream = gated_client.stream_chat("Hi")
    stream.cancel()
    with pytest.raises(Cancelled):
        stream.finish()
    assert gated_daemon.requests == ()


def test_a_daemon_that_dies_half_way_is_an_error_with_the_text_so_far(
    gated_client: Client, gated_daemon: FakeDaemon, gate: Gate
) -> None:
    gate.open(1)
    deltas = iter(gated_client.stream_chat("Hi"))
    assert next(deltas).text == "one"
    gated_daemon.stop()
    with pytest.raises(BiseError) as caught:
        next(deltas)
    assert caught.value.partial == "one"
