"""A daemon that speaks out of turn is found out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bise import Client, DaemonError
from bise.testing import FakeDaemon
from bise.testing.servicers import FakeInference
from bise_proto.v1 import inference_pb2 as pb

ACCEPTED = pb.GenerateResponse(accepted=pb.Accepted(request_id="r"))
DELTA = pb.GenerateResponse(delta=pb.Delta(text="x"))
DONE = pb.GenerateResponse(done=pb.Done())


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "expected accepted from the daemon, got the end of the stream"),
        ([DELTA], "expected accepted from the daemon, got delta"),
        ([ACCEPTED, ACCEPTED], "expected delta or done from the daemon, got accepted"),
        ([ACCEPTED, DELTA], "expected delta or done from the daemon, got the end of the stream"),
        ([ACCEPTED, pb.GenerateResponse()], "expected delta or done from the daemon, got None"),
        ([ACCEPTED, DONE, DELTA], "expected the end of the stream after done"),
    ],
)
def test_events_out_of_order_are_an_error(
    events: list[pb.GenerateResponse], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chat(self: FakeInference, request: pb.ChatRequest, context: Any) -> Iterator[pb.GenerateResponse]:
        yield from events

    monkeypatch.setattr(FakeInference, "Chat", chat)
    with FakeDaemon() as daemon, Client(daemon.address) as client, pytest.raises(DaemonError, match=message):
        client.chat("Hi")


def test_a_finish_reason_of_a_newer_daemon_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def chat(self: FakeInference, request: pb.ChatRequest, context: Any) -> Iterator[pb.GenerateResponse]:
        yield ACCEPTED
        yield pb.GenerateResponse(done=pb.Done(finish_reason=99))  # type: ignore[arg-type]

    monkeypatch.setattr(FakeInference, "Chat", chat)
    with FakeDaemon() as daemon, Client(daemon.address) as client:
        assert client.chat("Hi").finish_reason == "unknown"
