"""Calls through `bised.socket`: those that come before the daemon can answer wait for it."""

from __future__ import annotations

import pytest

from bise import Client, Health
from systemd.conftest import Device

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def answers(client: Client) -> bool:
    return client.generate("Hi", max_tokens=3, ignore_eos=True, timeout=60).usage.completion_tokens == 3


def test_the_first_call_starts_the_daemon_and_waits_for_it(device: Device) -> None:
    device.set(fault="slow")
    device.systemctl("start", "bised.socket")
    assert device.state == "inactive"
    with device.client() as client:
        assert answers(client)
    assert device.state == "active"


def test_while_calls_wait_health_says_that_nobody_serves(device: Device) -> None:
    device.set(fault="slow")
    device.systemctl("start", "bised.socket")
    with device.machine.journal("bised.service") as journal, device.client() as client:
        device.systemctl("start", "--no-block", "bised.service")
        journal.until("reading from a slow disk")
        assert client.health() is Health.NOT_SERVING
        assert answers(client)


def test_calls_while_a_killed_daemon_is_started_anew_wait(device: Device) -> None:
    device.systemctl("start", "bised.socket", "bised.service")
    with device.client() as client:
        assert answers(client)
    device.systemctl("kill", "--signal=KILL", "bised.service")
    with device.client() as client:
        assert answers(client)
    assert device.machine.property("bised.service", "NRestarts") == "1"


def test_an_answer_ends_before_the_daemon_does_and_the_next_call_has_another(device: Device) -> None:
    device.systemctl("start", "bised.socket", "bised.service")
    with device.client() as client, client.stream_generate("Hi", max_tokens=200, ignore_eos=True) as stream:
        deltas = iter(stream)
        next(deltas)
        device.systemctl("restart", "bised.service")
        assert list(deltas)
        assert stream.result.usage.completion_tokens == 200
    with device.client() as client:
        assert answers(client)


def test_a_socket_elsewhere_than_the_configuration_says_is_refused(device: Device) -> None:
    device.set("Restart=no")
    device.configure(listen="unix:///run/bise/other.sock")
    device.systemctl("start", "bised.socket")
    with device.machine.journal("bised.service") as journal:
        device.systemctl("start", "bised.service", check=False)
        told = journal.until("expected systemd to listen on unix:///run/bise/other.sock")
    assert "got unix:///run/bise/bise.sock" in told
