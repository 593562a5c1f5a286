"""What is different for the daemon, and what it takes."""

from __future__ import annotations

import pytest

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.live import LIVE
from bise_daemon.fleet.change import UNSET, Action, Change, action, changes


@pytest.fixture
def between(fleet):
    def run(old: str, new: str) -> list[Change]:
        return changes(
            *(fleet(f"devices: {{a: {{config: {{bundle: /b, {each}}}}}}}").devices["a"] for each in (old, new))
        )

    return run


@pytest.mark.parametrize(
    ("old", "new", "changed", "does"),
    [
        ("slots: 4", "slots: 4", [], Action.NONE),
        ("slots: 4", "slots: 5", [Change("slots", 4, 5)], Action.RESTART),
        ("", "slots: 5", [Change("slots", UNSET, 5)], Action.RESTART),
        ("", "slots: 8", [], Action.NONE),
        ("context: 64", "", [Change("context", 64, UNSET)], Action.RESTART),
        ("context: null", "", [], Action.NONE),
        ("step_ms: 20", "step_ms: 20.0", [], Action.NONE),
        ("drain_timeout_s: 3", "", [Change("drain_timeout_s", 3, UNSET)], Action.RELOAD),
        (
            "drain_timeout_s: 3",
            "slots: 3",
            [Change("slots", UNSET, 3), Change("drain_timeout_s", 3, UNSET)],
            Action.RESTART,
        ),
    ],
)
def test_changes_are_the_daemons(between, old: str, new: str, changed: list[Change], does: Action) -> None:
    found = between(old, new)
    assert found == changed
    assert action(found) is does


def test_what_depends_on_the_device_is_not_compared_with_this_machines(between, monkeypatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    (change,) = between("", "listen: 'unix:///run/user/1/bise.sock'")
    assert change.key == "listen"


def test_live_settings_are_settings() -> None:
    assert set(LIVE) <= set(DaemonConfig.model_fields)
