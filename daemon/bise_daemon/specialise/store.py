"""The specialised files on disk: made once for a bundle on a device, and trusted no further than they can be proved."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from bise_daemon.loading import Loading, LoadingStoppedError
from bise_daemon.specialise.packing import pack_apart
from bise_daemon.specialise.writer import DATA_FILE, MODEL_FILE
from bise_daemon.state import UnfitError, own_file, replacing, sealed, unsealed
from bise_proto.bundle import sha256

logger = logging.getLogger(__name__)

_FORMAT = 1
_RECORD_FILE, _FIRST_STEP_FILE = "record.json", "first_step.json"
_MOST_BYTES = 64 << 10
_NAME = re.compile(r"[0-9a-f]{32}(\.part)?")
# Packed weights over the file's, the largest matrix once more while it is packed, and room to spare: blocks of 32 come
# to 1.37 times (SmolLM2), blocks of 128 to 1.1 (24 B).
_ROOM_PERCENT = 150
# For one product: 24 B takes 167 s for 161 of them. For a few MB of a file that is hashed, too.
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was when its hash was taken.

    Attributes:
        state: device, inode, size, and the times of the last change of content and of status in ns. No ordinary way of
            writing to a file leaves all of them as they were.
    """

    sha256: str
    state: tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Record:
    key: str
    files: dict[str, _File]


_RECORDS = TypeAdapter(_Record)


class Store:
    """A folder with the specialised files of one bundle on this device.

    Args:
        folder: need not exist.
        manifest: the bytes of bundle.json, which has the hash of every other file.
        runtime: name and version of what runs the graph.
        cpu: what its kernels are chosen by.
        loading: hears how it gets on.
    """

    def __init__(self, folder: Path, manifest: bytes, runtime: str, cpu: Sequence[str], loading: Loading) -> None:
        parts = (_FORMAT, hashlib.sha256(manifest).hexdigest(), runtime, tuple(cpu))
        self._key = hashlib.sha256(repr(parts).encode()).hexdigest()
        self._all = folder
        self._folder = folder / self._key[:32]
        self._loading = loading

    def find(self, *, thorough: bool) -> Path | None:
        """The specialised graph.

        Args:
            thorough: hash the files even if nothing about them changed since that was done last.

        Returns:
            None where there is none, or, with a warning, where it is not what was written here.
        """
        try:
            record = self._read()
            for name in (MODEL_FILE, DATA_FILE):
                self._prove(name, record, thorough=thorough)
            return self._folder / MODEL_FILE
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            problem = " ".join(str(error).split())
            logger.warning("%s: not used: %s", self._folder, problem)
            return None

    def make(self, model: Path, weight_bytes: int) -> Path | None:
        """Specialises a graph in a process of its own; returns None, with a warning, where that fails.

        Args:
            model: the bundle's graph, whose files were proved.
            weight_bytes: of its weight files.

        Raises:
            LoadingStoppedError: nobody waits for it any more; what was begun is removed.
        """
        began = time.monotonic()
        draft = self._folder.with_name(f"{self._folder.name}.part")
        try:
            self._clear()
            draft.mkdir(0o700, parents=True)
            needed_bytes, free_bytes = weight_bytes * _ROOM_PERCENT // 100, shutil.disk_usage(draft).free
            if free_bytes < needed_bytes:
                raise UnfitError(f"expected {needed_bytes / 1e9:.1f} GB of free disk, got {free_bytes / 1e9:.1f} GB")
            logger.info("%s: specialising it for this device, once", model.parent)
            pack_apart(model, draft, self._loading, _PATIENCE_S)
            self._loading.begin("hashing what was packed", _PATIENCE_S)
            self._record(draft)
            draft.rename(self._folder)
        except LoadingStoppedError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        except (OSError, ValueError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            problem = " ".join(str(error).split())
            logger.warning(
                "%s: not specialised for this device, so its weights are repacked: %s", model.parent, problem
            )
            return None
        logger.info("%s: specialised for this device in %.0f s", model.parent, time.monotonic() - began)
        return self._folder / MODEL_FILE

    def confirms(self, logits: NDArray[np.float32]) -> bool:
        """Whether a first step, which reads every weight, came out as at the first start; there, it is noted.

        It would not if a kernel did not find what it packs to, and used a hollow matrix instead.
        """
        path, digest = self._folder / _FIRST_STEP_FILE, hashlib.sha256(logits.tobytes()).hexdigest().encode()
        try:
            with own_file(path) as file:
                return unsealed(file.read(_MOST_BYTES)) == digest
        except FileNotFoundError:
            with replacing(path) as file:
                file.write(sealed(digest))
            return True
        except (OSError, UnfitError):
            return False

    def discard(self) -> None:
        """Removes what does not work; the next start makes it again."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _clear(self) -> None:
        """Removes what is of other bundles, versions or devices, and what was left unfinished: each has many bytes."""
        if not self._all.is_dir():
            return
        for path in self._all.iterdir():
            if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)

    def _record(self, folder: Path) -> None:
        files = {
            name: _File(self._hash(folder / name), _state((folder / name).stat())) for name in (MODEL_FILE, DATA_FILE)
        }
        with replacing(folder / _RECORD_FILE) as file:
            file.write(sealed(_RECORDS.dump_json(_Record(self._key, files))))

    def _read(self) -> _Record:
        with own_file(self._folder / _RECORD_FILE) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UnfitError(f"expected a record of at most {_MOST_BYTES} bytes")
        found = _RECORDS.validate_json(unsealed(content))
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise UnfitError("expected a folder that only the daemon's user can change, got one of others")
        if found.key != self._key:
            raise UnfitError(f"expected files for {self._key}, got some for {found.key}")
        return found

    def _prove(self, name: str, record: _Record, *, thorough: bool) -> None:
        expected = record.files[name]
        with own_file(self._folder / name) as file:
            state = _state(os.fstat(file.fileno()))
        if state == expected.state and not thorough:
            return
        if state[2] != expected.state[2]:
            raise UnfitError(f"{name}: expected {expected.state[2]} bytes, got {state[2]}")
        if (digest := self._hash(self._folder / name)) != expected.sha256:
            raise UnfitError(f"{name}: expected sha256 {expected.sha256}, got {digest}")

    def _hash(self, path: Path) -> str:
        return sha256(path, self._loading.advance)


def _state(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
