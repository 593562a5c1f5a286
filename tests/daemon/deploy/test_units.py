"""The units, as systemd itself reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bise_daemon.config.load import load_config

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"


def test_the_units_in_deploy_are_those_that_are_packaged() -> None:
    assert UNITS.resolve().parent.name == "deploy"
    assert UNITS.resolve().parent.parent.name == "bise_daemon"


def test_the_installed_configuration_is_one_and_agrees_with_the_socket() -> None:
    config = load_config(UNITS / "bise.yaml")
    (listens,) = re.findall(r"^ListenStream=(.*)$", (UNITS / "bised.socket").read_text(), re.MULTILINE)
    assert str(config.listen) == f"unix://{listens}"
    assert config.cache_folder != config.state_folder


@pytest.mark.slow
def test_little_is_exposed() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here; it is in the package systemd")
    ended = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", str(UNITS / "bised.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout[-500:]
