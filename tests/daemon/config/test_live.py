"""What of a configuration can change while it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.live import LIVE, LiveConfig
from bise_daemon.config.problem import ConfigError

CONFIG = DaemonConfig(bundle=Path("/models/m"))


def test_what_can_change_does() -> None:
    live = LiveConfig(CONFIG)
    changed = {"log_level": "debug", "default_timeout_s": 7.0, "drain_timeout_s": 0.0}
    assert changed.keys() == set(LIVE)
    assert live.replace(CONFIG.model_copy(update=changed)) == changed
    assert live.now.default_timeout_s == 7.0
    assert live.replace(live.now) == {}


def test_of_what_can_not_all_is_told_and_nothing_taken_over() -> None:
    live = LiveConfig(CONFIG)
    with pytest.raises(ConfigError) as refusal:
        live.replace(CONFIG.model_copy(update={"slots": 3, "log_level": "debug", "step_ms": 10.0}))
    assert [problem.where for problem in refusal.value.problems] == ["slots", "step_ms"]
    assert "slots: expected 8, which is served, got 3. Restart to change it." in str(refusal.value)
    assert live.now is CONFIG
