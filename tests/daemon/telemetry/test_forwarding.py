"""Batches on their way to a real receiver, which is there, away, or somebody else."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics

from bise_daemon.config.otlp import Endpoint
from bise_daemon.telemetry.forwarding import BATCHES, WAITING, Forwarding, each_interval
from bise_daemon.telemetry.receiver import Receiver
from bise_daemon.telemetry.spool import Batch, Spool
from otlp_receiver import OtlpReceiver, receiving


def batch(number: int) -> Batch:
    told = ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(schema_url=str(number))])
    return Batch("metrics", gzip.compress(told.SerializeToString(), mtime=0))


def forwarding(port: int, folder: Path, most_bytes: int = 1 << 20, **headers: str) -> Forwarding:
    return Forwarding(Receiver(Endpoint(False, "127.0.0.1", port, ""), headers), Spool(folder, most_bytes))


def taken(receiver: OtlpReceiver) -> list[str]:
    return [request.resource_metrics[0].schema_url for request in receiver.taken]


def counts(of: Forwarding) -> dict[str, object]:
    families = {family.metric: family.points for family in of.families()}
    return {"waiting": families[WAITING][()]} | {name: count for (name,), count in families[BATCHES].items() if count}


def test_what_is_taken_at_once_never_touches_the_disk(tmp_path: Path) -> None:
    with receiving() as receiver:
        forward = forwarding(receiver.port, tmp_path, Authorization="Bearer secret")
        forward.send(batch(0))
        assert taken(receiver) == ["0"]
        assert receiver.headers["Authorization"] == "Bearer secret"
    assert list(tmp_path.iterdir()) == []
    assert counts(forward) == {"waiting": 0, "delivered": 1}


def test_a_receiver_that_comes_back_gets_all_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with receiving() as receiver:
        port = receiver.port
    forward = forwarding(port, tmp_path)
    for number in range(3):
        forward.send(batch(number))
    assert counts(forward)["waiting"] == sum(path.stat().st_size for path in tmp_path.iterdir()) > 0
    again = forwarding(port, tmp_path)  # the daemon started anew meanwhile
    again.send(batch(3))
    with receiving(port) as receiver:
        again.send(batch(4))
        assert taken(receiver) == ["0", "1", "2", "3", "4"]
    assert counts(again) == {"waiting": 0, "delivered": 5}
    assert caplog.text.count("receiver is away") == 2  # once for each life
    assert caplog.text.count("receiver is there") == 1


@pytest.mark.slow
def test_what_waited_for_days_comes_in_portions(tmp_path: Path) -> None:
    with receiving() as receiver:
        spool = Spool(tmp_path, 1 << 20)
        for number in range(150):
            spool.add(batch(number))
        forward = forwarding(receiver.port, tmp_path)
        forward.send(batch(150))
        assert taken(receiver) == [str(number) for number in range(100)]
        forward.send(batch(151))
        assert taken(receiver) == [str(number) for number in range(152)]


def test_what_there_is_no_room_for_is_dropped_from_the_front(tmp_path: Path) -> None:
    size_bytes = 32 + len(batch(0).body)
    with receiving() as receiver:
        port = receiver.port
    forward = forwarding(port, tmp_path, 2 * size_bytes)
    for number in range(5):
        forward.send(batch(number))
    assert counts(forward) == {"waiting": 2 * size_bytes, "dropped": 3}
    with receiving(port) as receiver:
        forward.send()
        assert taken(receiver) == ["3", "4"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 302])
def test_an_answer_that_may_change_makes_it_wait(tmp_path: Path, status: int) -> None:
    with receiving() as receiver:
        receiver.status = status
        forward = forwarding(receiver.port, tmp_path)
        forward.send(batch(0))
        receiver.status = 200
        forward.send()
        assert taken(receiver) == ["0"]


def test_a_page_that_says_yes_to_everything_is_no_receiver(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.content_type, receiver.body = "text/html; charset=utf-8", b"<h1>Accept our terms</h1>"
        forward = forwarding(receiver.port, tmp_path)
        forward.send(batch(0))
        assert counts(forward)["waiting"]


def test_a_refusal_for_good_drops_it_and_lets_the_next_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        receiver.status = 400
        forward = forwarding(receiver.port, tmp_path)
        forward.send(batch(0))
        receiver.status = 200
        forward.send(batch(1))
        assert taken(receiver) == ["1"]
    assert counts(forward) == {"waiting": 0, "delivered": 1, "refused": 1}
    assert "status 400" in caplog.text


def test_a_disk_that_takes_nothing_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with receiving() as receiver:
        port = receiver.port
    forward = forwarding(port, tmp_path / "file" / "telemetry")
    forward.send(batch(0))
    assert counts(forward) == {"waiting": 0, "dropped": 1}
    assert "the disk does not take it" in caplog.text


def test_what_goes_wrong_once_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    acts = 0
    enough = threading.Event()

    def act() -> None:
        nonlocal acts
        acts += 1
        if acts == 1:
            raise RuntimeError("once")
        enough.set()

    with each_interval(act, 0.001):
        assert enough.wait(30)
    assert "telemetry was not sent this time" in caplog.text
