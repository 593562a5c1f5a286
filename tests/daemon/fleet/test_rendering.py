"""What is rendered is what the daemon reads."""

from __future__ import annotations

from pathlib import Path

from bise_daemon.config.load import load_config
from bise_daemon.fleet.fleet import load_fleet
from bise_daemon.fleet.rendering import render
from daemon.fleet.test_fleet import EXAMPLE

TEXTS = """\
labels: {region: [eu]}
defaults:
  bundle: /b
  listen: unix:///run/bise/bise.sock
groups:
  eu:
    match: {region: eu}
    config:
      context: null
      prefixes:
        - name: ask
          prompt: "one\\n\\n# two: 'three'\\n"
devices:
  a: {labels: {region: eu}, config: {step_ms: 20, trusted_keys: [/k.pem]}}
"""


def test_the_daemon_reads_what_the_fleet_says(tmp_path: Path) -> None:
    fleet = load_fleet(EXAMPLE)
    for device in fleet.devices.values():
        for origin in (False, True):
            path = tmp_path / "bise.yaml"
            path.write_text(render(fleet, device, origin=origin))
            assert load_config(path) == device.config


def test_it_says_which_layer_set_each_value(fleet) -> None:
    found = fleet(TEXTS)
    assert render(found, found.devices["a"], origin=True).splitlines() == [
        "# The configuration of a.",
        "bundle: /b  # defaults, fleet.yaml:3",
        "listen: unix:///run/bise/bise.sock  # defaults, fleet.yaml:4",
        "context: null  # group eu, fleet.yaml:9",
        "step_ms: 20  # device a, fleet.yaml:14",
        "# group eu, fleet.yaml:10",
        "prefixes:",
        "- name: ask",
        "  prompt: 'one",
        "",
        "",
        "    # two: ''three''",
        "",
        "    '",
        "# device a, fleet.yaml:14",
        "trusted_keys:",
        "- /k.pem",
    ]


def test_origins_change_nothing(fleet, tmp_path: Path) -> None:
    found = fleet(TEXTS)
    for origin in (False, True):
        path = tmp_path / "bise.yaml"
        path.write_text(render(found, found.devices["a"], origin=origin))
        assert load_config(path) == found.devices["a"].config
