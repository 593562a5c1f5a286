"""What counts as serving is what a daemon says of itself."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Timer

import pytest

from bise.testing import FakeDaemon
from bise.types import Health
from bise_daemon.config.address import UnixAddress, parse_address
from bise_daemon.trial.health import wait_until_serving


def test_one_that_serves_is_found_at_once() -> None:
    with FakeDaemon() as daemon:
        assert wait_until_serving(parse_address(daemon.address), time.monotonic() + 60) == ""


def test_one_that_does_not_says_how_it_is() -> None:
    with FakeDaemon(health=Health.NOT_SERVING) as daemon:
        said = wait_until_serving(parse_address(daemon.address), time.monotonic() + 0.2)
    assert said == "its health was NOT_SERVING"


def test_nobody_is_nobody(tmp_path: Path) -> None:
    said = wait_until_serving(UnixAddress(tmp_path / "bise.sock"), time.monotonic() + 0.1)
    assert said == "nobody listened"


@pytest.mark.slow
def test_one_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/bise.sock"
    with FakeDaemon(address=address, health=Health.NOT_SERVING) as daemon:
        serving = Timer(0.05, daemon.set_health, [Health.SERVING])
        serving.start()
        assert wait_until_serving(parse_address(address), time.monotonic() + 60) == ""
        serving.join()
