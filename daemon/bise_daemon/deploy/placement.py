"""Which files go where."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

_DATA = files("bise_daemon.deploy") / "systemd"
_COMMAND = "/usr/bin/bise"
# Folders that systemd looks into below any of /usr and /usr/local.
_FOLDERS = {
    "bised.service": "lib/systemd/system/bised.service",
    "bised.socket": "lib/systemd/system/bised.socket",
    "sysusers.conf": "lib/sysusers.d/bise.conf",
    "tmpfiles.conf": "lib/tmpfiles.d/bise.conf",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """One file of an installation.

    Attributes:
        path: absolute, on the device.
        content: what it has to be; ends with a line's end.
        is_setting: the operator's, once it is there: never written over, and removed only as it was installed.
    """

    path: PurePosixPath
    content: bytes
    is_setting: bool = False

    def below(self, root: Path) -> Path:
        """Where it is in the tree at `root`."""
        return root / self.path.relative_to("/")


def placements(prefix: PurePosixPath, command: PurePosixPath) -> list[Placement]:
    """All files of an installation, the units last: whoever sees one finds what it needs.

    Args:
        prefix: /usr for packages, /usr/local for all else.
        command: the `bise` that units start.

    Raises:
        ValueError: a path that a unit can't name.
    """
    for path in (prefix, command):
        if not path.is_absolute() or not set(str(path)).isdisjoint(" \t\n\"'\\%$;"):
            raise ValueError(f"expected an absolute path without blanks, quotes, \\, %, $ and ;, got {str(path)!r}")
    placed = [Placement(PurePosixPath("/etc/bise/bise.yaml"), (_DATA / "bise.yaml").read_bytes(), is_setting=True)]
    for name in reversed(_FOLDERS):
        content = (_DATA / name).read_text(encoding="utf-8").replace(_COMMAND, str(command))
        placed.append(Placement(prefix / _FOLDERS[name], content.encode()))
    return placed
