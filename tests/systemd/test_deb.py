"""The Debian package in dist/, if `make deb` has made one: installed, served, and removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bise import Client
from systemd.machine import Machine, NoMachineError, machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DIST = Path(__file__).parents[2] / "dist"


@pytest.fixture
def bare() -> Iterator[Machine]:
    """A machine without bise."""
    if not list(DIST.glob("bise_*.deb")):
        pytest.skip("dist/ has no package; `make deb` makes one")
    try:
        with machine() as bare:
            yield bare
    except NoMachineError as error:
        pytest.skip(str(error))


def test_a_package_is_installed_serves_and_goes(bare: Machine, tiny_bundle: Path) -> None:
    package = max(DIST.glob("bise_*.deb"), key=lambda path: path.stat().st_mtime)
    bare.run("dpkg", "--install", str(package))
    assert bare.run("bise", "version").startswith("bise ")
    shutil.copytree(tiny_bundle, bare.root / "var/lib/bise/models/default", copy_function=shutil.copy)
    bare.run("systemctl", "start", "bised.socket", "bised.service")
    with Client(f"unix://{bare.root}/run/bise/bise.sock") as client:
        assert client.generate("Hi", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
    bare.run("dpkg", "--remove", "bise")
    assert not (bare.root / "opt/bise").exists()
    assert bare.run("systemctl", "is-active", "bised.service", check=False).strip() == "inactive"
    assert (bare.root / "var/lib/bise/models/default/bundle.json").exists()
