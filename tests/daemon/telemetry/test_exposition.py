"""Scrapes over HTTP."""

from __future__ import annotations

import http.client
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bise_daemon.config.address import TcpAddress
from bise_daemon.telemetry.exposition import exposed
from bise_daemon.telemetry.metric import Distribution, Family, Instrument, Metric

pytestmark = pytest.mark.slow  # a server looks twice a second whether it is to stop

LOOPBACK = TcpAddress("127.0.0.1", 0)
TAKEN = Metric("bise.taken", Instrument.HISTOGRAM, "s", "How long.", ("of.what",), (0.5, 1.0))
COUNT = Metric("bise.count", Instrument.COUNTER, "{thing}", "How many.", ("kind",))
LEVEL = Metric("bise.level", Instrument.GAUGE, "By", "How much.")
HOSTILE = 'quote " backslash \\ line\nend'


def collect() -> list[Family]:
    taken = Distribution(TAKEN.bounds)
    for value in (0.25, 0.75, 4.0):
        taken.observe(value)
    return [
        Family(TAKEN, {("chat",): taken}),
        Family(COUNT, {("a",): 3.0, (HOSTILE,): 4.0}),
        Family(LEVEL, {(): 1e9}),
    ]


def scrape(address: TcpAddress, accept: str = "") -> str:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    response = connection.getresponse()
    assert response.status == 200
    text = response.read().decode()
    connection.close()
    return text


def test_a_scrape_can_be_read_back() -> None:
    with exposed(LOOPBACK, collect) as address:
        families = {family.name: family for family in text_string_to_metric_families(scrape(address))}
    assert {sample.labels["kind"]: sample.value for sample in families["bise_count"].samples} == {"a": 3, HOSTILE: 4}
    assert families["bise_level_bytes"].samples[0].value == 1e9
    taken = {(sample.name, sample.labels.get("le")): sample.value for sample in families["bise_taken_seconds"].samples}
    assert taken == {
        ("bise_taken_seconds_bucket", "0.5"): 1,
        ("bise_taken_seconds_bucket", "1.0"): 2,
        ("bise_taken_seconds_bucket", "+Inf"): 3,
        ("bise_taken_seconds_count", None): 3,
        ("bise_taken_seconds_sum", None): 5,
    }


def test_openmetrics_is_there_for_who_asks() -> None:
    with exposed(LOOPBACK, collect) as address:
        assert scrape(address, "application/openmetrics-text; version=1.0.0").endswith("# EOF\n")


def test_a_scrape_that_fails_leaves_the_next_alone() -> None:
    attempts = iter([TimeoutError("the loop is busy")])

    def sometimes() -> list[Family]:
        for error in attempts:
            raise error
        return collect()

    with exposed(LOOPBACK, sometimes) as address:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            scrape(address)
        assert "bise_count_total" in scrape(address)


def test_who_says_nothing_keeps_nobody_waiting() -> None:
    with exposed(LOOPBACK, collect) as address, socket.create_connection((address.host, address.port)) as silent:
        assert "bise_count_total" in scrape(address)
        silent.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert "bise_count_total" in scrape(address)


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with (
        exposed(LOOPBACK, collect) as address,
        pytest.raises(OSError, match=r"127\.0\.0\.1:\d+: can't listen for scrapes: .* --metrics\."),
        exposed(address, collect),
    ):
        pass
