"""Files of an installation, in a folder that stands for an image's root."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from bise_daemon.deploy import installation as installation_module
from bise_daemon.deploy.installation import Installation
from bise_daemon.deploy.placement import placements

USR, COMMAND = PurePosixPath("/usr"), PurePosixPath("/opt/bise/bin/bise")
CONFIG = Path("etc/bise/bise.yaml")
SERVICE = Path("usr/lib/systemd/system/bised.service")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(placements(USR, COMMAND), tmp_path)


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_units_come_last_and_start_the_command(installation: Installation, tmp_path: Path) -> None:
    done = installation.install()
    assert done[-1] == f"{tmp_path / SERVICE}: installed"
    assert f"ExecStart={COMMAND} serve --config /etc/bise/bise.yaml" in (tmp_path / SERVICE).read_text()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o644}


def test_twice_is_once(installation: Installation, tmp_path: Path) -> None:
    installation.install()
    before = content(tmp_path)
    assert all(line.endswith(": unchanged") for line in installation.install())
    assert content(tmp_path) == before
    assert all(line.endswith(": removed") for line in installation.uninstall())
    assert content(tmp_path) == {}
    assert all(line.endswith(": not there") for line in installation.uninstall())


def test_settings_are_the_operators(installation: Installation, tmp_path: Path) -> None:
    installation.install()
    (tmp_path / CONFIG).write_text("bundle: /mine\n")
    (tmp_path / SERVICE).write_text("old\n")
    told = installation.install()
    assert f"{tmp_path / CONFIG}: kept as it is" in told
    assert f"{tmp_path / SERVICE}: updated" in told
    assert f"{tmp_path / CONFIG}: kept, since it was changed" in installation.uninstall()
    assert content(tmp_path) == {str(CONFIG): b"bundle: /mine\n"}


@pytest.mark.parametrize("fails_at", range(5))
def test_all_or_nothing(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    (tmp_path / SERVICE).parent.mkdir(parents=True)
    (tmp_path / SERVICE).write_text("old\n")
    write, written = installation_module._write, []

    def failing(path: Path, text: bytes) -> None:
        if len(written) == fails_at:
            written.append(path)
            raise OSError("the disk is full")
        written.append(path)
        write(path, text)

    monkeypatch.setattr(installation_module, "_write", failing)
    with pytest.raises(OSError, match="the disk is full"):
        installation.install()
    assert content(tmp_path) == {str(SERVICE): b"old\n"}


@pytest.mark.parametrize("path", ["bin/bise", "/opt/my bise/bin/bise", "/opt/%i/bise", "/opt/a;b"])
def test_a_command_that_a_unit_cannot_name_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="expected an absolute path"):
        placements(USR, PurePosixPath(path))
