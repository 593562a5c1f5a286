"""A daemon that tells, and one that can't."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bise import Client, ContextOverflow
from bise_daemon.config.load import config_from_flags
from bise_daemon.config.problem import ConfigError
from bise_daemon.sensors.body import Sensors
from bise_daemon.serving import Stage
from bise_daemon.telemetry.answers import ANSWER_METRICS
from bise_daemon.telemetry.device import DEVICE_METRICS
from bise_daemon.telemetry.telemetry import NO_TELEMETRY, Collection, telling
from bise_proto.v1 import device_pb2
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
    assert told["bise_tokens_total", frozenset({("kind", "completion")})] == 8
    met = frozenset({("priority", "interactive"), ("outcome", "met")})
    assert told["bise_budgets_total", met] == 1
    names = set().union(*(metric.prometheus_names for metric in (*ANSWER_METRICS, *DEVICE_METRICS)))
    assert {name for name, _ in told} <= names


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
        pytest.raises(ConfigError, match=r"^metrics: expected the package prometheus_client .*'bise\[telemetry\]'$"),
        telling(config, Stage(), device_pb2.Status),
    ):
        pass
