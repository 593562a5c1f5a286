"""Computed prefixes on disk: used when every byte is what this daemon would have written, else ignored."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bise_daemon.engine.kv import CacheShape
from bise_daemon.state import UnfitError, own_file, replacing

logger = logging.getLogger(__name__)

_MAGIC = b"bise prefix 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_OURS = re.compile(r"prefix-[0-9a-f]{64}\.kv(\.[^.]+\.part)?")


class PrefixStore:
    """A folder with a file for each prefix: a line of magic, a line of JSON, the cache entries, SHA-256 of all that.

    The JSON says what the entries were computed from and with. It is never parsed: a reader knows what it must be,
    and so how long the file is, before anything is read. The hash tells damage, not forgery: whoever may write as the
    daemon's user may change its prefixes, and files of others are not read.

    Entries are read to and written from where they lie in the cache, so there is no second copy of them.

    Args:
        folder: for this alone, made when needed; no other daemon may use it at the same time.
        bundle_sha256: of the manifest, which has the hashes of weights and tokenizer.
        runtime: what computes, as far as its last bits depend on it: onnxruntime's version, the CPU's kind.
        shape: of the cache; the number of slots and their capacity don't matter.
    """

    def __init__(self, folder: Path, bundle_sha256: str, runtime: str, shape: CacheShape) -> None:
        self._folder = folder
        self._bytes_per_token = shape.bytes_per_token
        self._origin = {
            "bundle_sha256": bundle_sha256,
            "runtime": runtime,
            "layers": shape.num_layers,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "dtype": shape.dtype.str,
        }

    def load(self, tokens: Sequence[int], pieces: Iterable[memoryview]) -> bool:
        """Fills `pieces` (as of `KvCache.pieces`) with the entries of `tokens`.

        Returns:
            Whether it did. If not, for a warned reason or because there is no file, what the pieces hold is undefined.
        """
        path = self._path(tokens)
        try:
            self._read(path, tokens, pieces)
        except FileNotFoundError:
            return False
        except (OSError, UnfitError) as error:
            logger.warning("%s: ignored: %s. The prefix is computed again.", path, _reason(error))
            return False
        return True

    def save(self, tokens: Sequence[int], pieces: Iterable[memoryview]) -> None:
        """Writes the entries of `tokens`, whole or not at all; that it can't is a warning."""
        path = self._path(tokens)
        head = self._head(tokens)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(path) as file:
                # A disk without room says so before any of it is taken from others.
                os.posix_fallocate(file.fileno(), 0, self._file_bytes(head, tokens))
                digest = hashlib.sha256(head)
                file.write(head)
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
                _forget(file.fileno())
        except OSError as error:
            logger.warning("%s: not kept: %s. The prefix is computed at the next start again.", path, _reason(error))

    def keep_only(self, prefixes: Iterable[Sequence[int]]) -> None:
        """Removes the files of all prefixes but these (token ids), and what broken-off writes left."""
        kept = {self._path(tokens).name for tokens in prefixes}
        try:
            for path in self._folder.iterdir():
                if _OURS.fullmatch(path.name) and path.name not in kept:
                    path.unlink()
        except FileNotFoundError:  # nothing was ever kept
            return
        except OSError as error:
            logger.warning("%s: old prefixes not removed: %s. Check the folder.", self._folder, _reason(error))

    def _path(self, tokens: Sequence[int]) -> Path:
        return self._folder / f"prefix-{_sha256(tokens)}.kv"

    def _head(self, tokens: Sequence[int]) -> bytes:
        content = self._origin | {"tokens": len(tokens), "tokens_sha256": _sha256(tokens)}
        return _MAGIC + json.dumps(content, sort_keys=True).encode() + b"\n"

    def _file_bytes(self, head: bytes, tokens: Sequence[int]) -> int:
        return len(head) + len(tokens) * self._bytes_per_token + _DIGEST_BYTES

    def _read(self, path: Path, tokens: Sequence[int], pieces: Iterable[memoryview]) -> None:
        head = self._head(tokens)
        expected_bytes = self._file_bytes(head, tokens)
        with own_file(path) as file:
            if (size_bytes := os.fstat(file.fileno()).st_size) != expected_bytes:
                raise UnfitError(f"expected {expected_bytes} bytes, got {size_bytes}")
            if file.read(len(head)) != head:
                raise UnfitError("expected a prefix of this bundle, onnxruntime and cache, got another's")
            digest = hashlib.sha256(head)
            for piece in pieces:
                file.readinto(piece)
                digest.update(piece)
            if file.read(_DIGEST_BYTES) != digest.digest():
                raise UnfitError("expected contents of the SHA-256 at its end, got others: the file is damaged")
            _forget(file.fileno())


def _reason(error: Exception) -> str:
    """Without the path, which an OSError would repeat."""
    return str(getattr(error, "strerror", None) or error)


def _sha256(tokens: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(tokens, "<i8").tobytes()).hexdigest()


def _forget(descriptor: int) -> None:
    """Takes a file out of the page cache: its contents are in the KV cache, and memory is what the device lacks."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
