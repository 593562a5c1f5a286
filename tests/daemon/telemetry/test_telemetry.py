"""A daemon that tells, and one that can't."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from bise import Client, ContextOverflow
from bise_daemon.config.load import config_from_flags
from bise_daemon.config.problem import ConfigError
from bise_daemon.sensors.body import Sensors
from bise_daemon.serving import Stage
from bise_daemon.telemetry.table import METRICS
from bise_daemon.telemetry.telemetry import NO_TELEMETRY, Collection, telling
from bise_proto.v1 import device_pb2, inference_pb2, inference_pb2_grpc
from otlp_receiver import receiving
from running import running


def scrape(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels."""
    with urllib.request.urlopen(url, timeout=30) as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_a_daemon_tells_what_it_did(tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running(tiny_bundle, tmp_path, metrics={"listen": "127.0.0.1:0"}) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        found = re.search(r"metrics on (http://\S+)", caplog.text)
        assert found
        answer = client.chat("Hello", max_tokens=6, ignore_eos=True, timeout=60)
        client.generate("Hello", max_tokens=2, ignore_eos=True)
        with pytest.raises(ContextOverflow):
            client.generate([5] * 1000)
        told = scrape(found[1])
    whose = {"gen_ai_provider_name": "bise", "gen_ai_request_model": "tiny"}
    chat = frozenset({**whose, "gen_ai_operation_name": "chat"}.items())
    assert told["gen_ai_server_time_to_first_token_seconds_count", chat] == 1
    first_token_s = told["gen_ai_server_time_to_first_token_seconds_sum", chat]
    assert first_token_s == pytest.approx(answer.timings.first_token_ms / 1e3)
    refused = {**whose, "gen_ai_operation_name": "text_completion", "error_type": "CONTEXT_OVERFLOW"}
    assert told["gen_ai_server_request_duration_seconds_count", frozenset(refused.items())] == 1
    assert told["bise_refusals_total", frozenset({("reason", "CONTEXT_OVERFLOW")})] == 1
    assert told["bise_tokens_total", frozenset({("kind", "completion")})] == 9  # with that of the self-test
    met = frozenset({("priority", "interactive"), ("outcome", "met")})
    assert told["bise_budgets_total", met] == 1
    names = set().union(*(metric.prometheus_names for metric in METRICS))
    assert {name for name, _ in told} <= names


@pytest.mark.slow
def test_a_daemon_exports_what_it_tells(tiny_bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "headers"
    secret.touch(0o600)
    secret.write_text("Authorization: Bearer hunter2\n")
    state = tmp_path / "state"
    with receiving() as receiver:
        settings = {"endpoint": f"http://127.0.0.1:{receiver.port}", "headers_file": str(secret), "interval_s": 1.0}
        with running(tiny_bundle, tmp_path, state_dir=str(state), otlp=settings):
            assert receiver.came.acquire(timeout=30)
        (request, *_) = receiver.taken
    assert receiver.headers["Authorization"] == "Bearer hunter2"
    (told,) = request.resource_metrics
    who = {each.key: each.value.string_value for each in told.resource.attributes}
    assert who.keys() == {"service.name", "service.version", "host.name"}
    names = {metric.name for metric in told.scope_metrics[0].metrics}
    assert {"bise.state", "bise.otlp.batches"} <= names <= {metric.name for metric in METRICS}
    assert list((state / "telemetry").iterdir()) == []


@pytest.mark.slow
def test_a_call_with_a_sampled_parent_becomes_its_child(tiny_bundle: Path, tmp_path: Path) -> None:
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    request = inference_pb2.GenerateRequest(prompt="Hi", options=inference_pb2.Options(max_tokens=2))
    spans = []
    with receiving() as receiver:
        settings = {"endpoint": f"http://127.0.0.1:{receiver.port}", "interval_s": 1.0}
        with running(tiny_bundle, tmp_path, state_dir=str(tmp_path / "state"), otlp=settings) as daemon:
            with Client(daemon.address) as client, grpc.insecure_channel(daemon.address) as channel:
                client.wait_until_serving()
                generate = inference_pb2_grpc.InferenceStub(channel).Generate
                for flags in ("00", "01"):
                    list(generate(request, metadata=[("traceparent", f"00-{trace}-{caller}-{flags}")], timeout=30))
            while not spans:
                assert receiver.came.acquire(timeout=30)
                spans = [
                    span
                    for taken in receiver.taken
                    if isinstance(taken, ExportTraceServiceRequest)
                    for span in taken.resource_spans[0].scope_spans[0].spans
                ]
    assert [(span.trace_id.hex(), span.parent_span_id.hex(), span.name) for span in spans] == [
        (trace, caller, "text_completion tiny")
    ]


@pytest.mark.slow
def test_headers_that_all_can_read_are_refused_at_start(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("A: b\n")
    (tmp_path / "headers").chmod(0o644)
    settings = {"endpoint": "http://127.0.0.1:1", "headers_file": str(tmp_path / "headers")}
    with (
        pytest.raises(ConfigError, match=r"^otlp\.headers_file: expected a file that others can't read"),
        running(tiny_bundle, tmp_path, otlp=settings),
    ):
        pass


async def test_who_collects_hears_what_went_wrong(tmp_path: Path) -> None:
    def status() -> device_pb2.Status:
        raise OSError("no /proc")

    collection = Collection(Stage(), status, Sensors(tmp_path))
    with pytest.raises(OSError, match="no /proc"):
        await asyncio.to_thread(collection.collect)


async def test_without_settings_nothing_is_told() -> None:
    with telling(config_from_flags({"bundle": "here"}), Stage(), device_pb2.Status) as telemetry:
        assert telemetry is NO_TELEMETRY


async def test_what_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "bise_daemon.telemetry.exposition", raising=False)
    config = config_from_flags({"bundle": "here", "metrics": {"listen": "127.0.0.1:0"}})
    with (
        pytest.raises(
            ConfigError, match=r"^metrics: expected the package prometheus_client for it.*'bise\[telemetry\]'$"
        ),
        telling(config, Stage(), device_pb2.Status),
    ):
        pass
