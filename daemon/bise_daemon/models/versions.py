"""Which version of each signed bundle this device accepted last, so that nobody offers it an older one."""

from __future__ import annotations

import json
from pathlib import Path

from packaging.version import InvalidVersion, Version

from bise_daemon.state import UnfitError, own_file, replacing, sealed, unsealed
from bise_proto.bundle import BundleError

FILE = "versions.json"
_MOST_BYTES = 64 << 10


class Versions:
    """A file in `folder` with a version by the bundle's name.

    A file that is not there is one of a device that accepted nothing yet. One that is damaged says nothing, and to
    take that for nothing yet would be to skip a check that was asked for: it is refused, and a person decides.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def accepted(self, name: str) -> Version | None:
        """The version of the bundle `name` that was accepted last; None if none was.

        Raises:
            BundleError: the file is damaged, or others could have written it.
        """
        return self._read().get(name)

    def accept(self, name: str, version: Version) -> None:
        """Remembers a version, if it is another than before.

        Raises:
            BundleError: the file is damaged, or can't be written.
        """
        versions = self._read()
        if versions.get(name) == version:
            return
        body = json.dumps({each: str(of) for each, of in (versions | {name: version}).items()}).encode()
        try:
            if len(body) > _MOST_BYTES // 2:
                raise OSError(f"it would hold more than {_MOST_BYTES // 2} bytes")
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(self._path) as file:
                file.write(sealed(body))
        except OSError as error:
            raise BundleError(
                f"{self._path}: expected to note that {name} {version} was accepted, so that no older one is, got: "
                f"{error.strerror or error}. Give the daemon a state_dir it can write."
            ) from error

    def _read(self) -> dict[str, Version]:
        try:
            with own_file(self._path) as file:
                content = file.read(_MOST_BYTES + 1)
            return _parsed(content)
        except FileNotFoundError:
            return {}
        except (OSError, UnfitError) as error:
            raise BundleError(
                f"{self._path}: expected the versions accepted so far, as they were saved, got: {error}. "
                "Check how that came about; then remove the file, and the next signed version counts as the first."
            ) from error


def _parsed(content: bytes) -> dict[str, Version]:
    if len(content) > _MOST_BYTES:
        raise UnfitError(f"more than {_MOST_BYTES} bytes")
    try:
        values = json.loads(unsealed(content))
        return {str(name): Version(version) for name, version in values.items()}
    except (ValueError, RecursionError, AttributeError, TypeError, InvalidVersion) as error:
        raise UnfitError(str(error)) from error
