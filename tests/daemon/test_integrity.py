"""`check_integrity`: the scheduler of a whole daemon is checked if, and only if, the configuration says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise import Client, DaemonError
from bise_daemon.scheduler.scheduler import Scheduler
from running import running

pytestmark = pytest.mark.slow


def broken(scheduler: Scheduler) -> None:
    raise AssertionError("a slot is lost")


def test_a_broken_state_ends_the_daemon(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> None:
        with running(tiny_bundle, tmp_path, check_integrity=True) as daemon, Client(daemon.address) as client:
            client.wait_until_serving()
            monkeypatch.setattr(Scheduler, "check_integrity", broken)
            with pytest.raises(DaemonError, match="a slot is lost"):
                client.generate([5, 6, 7], max_tokens=2)
            daemon.ended.exception(30)

    with pytest.raises(AssertionError, match="a slot is lost"):
        crash()


def test_by_default_nothing_is_checked(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "check_integrity", broken)
    with running(tiny_bundle, tmp_path) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        assert client.generate([5, 6, 7], max_tokens=2, ignore_eos=True).usage.completion_tokens == 2
