"""The daemon's life under a real systemd: started, killed, frozen, hung, reloaded and stopped."""

from __future__ import annotations

import pytest

from bise import Client
from systemd.conftest import Device
from systemd.hooks import FREEZE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def answers(client: Client) -> bool:
    return client.generate("Hi", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3


def test_a_start_is_over_when_the_model_answers(device: Device) -> None:
    with device.machine.journal("bised.service") as journal:
        device.systemctl("start", "bised.service")
        assert device.state == "active"
        assert device.status.startswith("Serving tiny")
        with device.client() as client:
            assert answers(client)
        journal.until("answered its self-test")
        journal.until("Started bise")
    # Nothing of what it needs is forbidden to it.
    assert not [line for line in journal.lines if "not permitted" in line or "WARNING" in line]


def test_a_killed_daemon_is_back(device: Device) -> None:
    device.systemctl("start", "bised.service")
    with device.machine.journal("bised.service") as journal:
        device.systemctl("kill", "--signal=KILL", "bised.service")
        journal.until("Started bise")
        with device.client() as client:
            assert answers(client)
    assert device.machine.property("bised.service", "NRestarts") == "1"


def test_a_frozen_engine_is_ended_by_the_watchdog_and_started_anew(device: Device) -> None:
    device.set("WatchdogSec=3", fault="freeze")
    device.systemctl("start", "bised.service")
    with device.machine.journal("bised.service") as journal, device.client() as client:
        assert answers(client)
        device.machine.write(str(FREEZE), "")
        with client.stream_generate("Hi", ignore_eos=True):
            journal.until("Watchdog timeout")
        # Where each thread was is in the log.
        journal.until("hooks.py")
        journal.until("Started bise")
        client.wait_until_serving(timeout=30)
        assert answers(client)


def test_an_idle_daemon_is_let_be(device: Device) -> None:
    device.set("WatchdogSec=3")
    device.systemctl("start", "bised.service")
    with device.client() as client:
        for seen, _ in enumerate(client.watch_status(interval=1, timeout=30)):
            if seen == 5:
                break
    assert device.machine.property("bised.service", "NRestarts") == "0"


def test_progress_extends_the_start(device: Device) -> None:
    device.set("TimeoutStartSec=2", fault="slow")
    device.systemctl("start", "bised.service")
    assert device.state == "active"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("stall", "reading from a slow disk: expected progress within 3 s"),
        ("seize", "start operation timed out"),
    ],
)
def test_a_load_that_hangs_fails_the_start_and_says_where(device: Device, fault: str, reason: str) -> None:
    device.set("TimeoutStartSec=2", "Restart=no", "TimeoutAbortSec=1", "TimeoutStopSec=1", fault=fault)
    with device.machine.journal("bised.service") as journal:
        device.systemctl("start", "bised.service", check=False)
        journal.until("loading default: reading from a slow disk")
        journal.until(reason)
    assert device.state == {"stall": "failed: exit-code", "seize": "failed: timeout"}[fault]


def test_a_reload_changes_what_it_can_and_drops_no_stream(device: Device) -> None:
    device.systemctl("start", "bised.service")
    with device.machine.journal("bised.service") as journal, device.client() as client:
        with client.stream_generate("Hi", ignore_eos=True) as stream:
            deltas = iter(stream)
            next(deltas)
            device.configure(default_timeout_s=7, log_level="debug")
            device.systemctl("reload", "bised.service")
            journal.until("default_timeout_s 7.0")
            assert list(deltas)
        # What would need another model is refused as a whole.
        device.configure(default_timeout_s=8, slots=3, log_level="info")
        device.systemctl("reload", "bised.service")
        journal.until("the configuration stays as it was: slots: expected 8, which is served, got 3")
        assert answers(client)
    assert device.state == "active"
    assert "the new configuration is refused: slots" in device.status


def test_a_stop_lets_answers_end(device: Device) -> None:
    device.systemctl("start", "bised.service")
    with device.client() as client, client.stream_generate("Hi", max_tokens=200, ignore_eos=True) as stream:
        deltas = iter(stream)
        next(deltas)
        device.systemctl("stop", "bised.service")
        assert list(deltas)
        assert stream.result.usage.completion_tokens == 200
    assert device.state == "inactive"
