"""The example in deploy/ is a valid configuration, and says the defaults as they are."""

from __future__ import annotations

from pathlib import Path

from bise_daemon.config.address import UnixAddress
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.load import load_config

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "bise.yaml"


def test_it_names_every_setting_with_its_default() -> None:
    config = load_config(EXAMPLE)
    system = UnixAddress(Path("/run/bise/bise.sock"))
    assert config == DaemonConfig(bundle=Path("/var/lib/bise/models/smollm2"), listen=system)
    text = EXAMPLE.read_text(encoding="utf-8")
    assert [name for name in DaemonConfig.model_fields if f"{name}:" not in text] == []
