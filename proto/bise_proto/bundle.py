"""A bundle on disk: one folder with a manifest (`bundle.json`) that names and hashes every other file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath

from google.protobuf import json_format

from bise_proto.v1 import bundle_pb2

MANIFEST = "bundle.json"
FORMAT_VERSION = 1
# provenance.source_kind of a decoder that another exporter made, and `bise package` wrapped.
FOREIGN = "onnx"
_MANIFEST_LIMIT_BYTES = 4 << 20
_HASH_CHUNK_BYTES = 4 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Of a path within a bundle: no file system takes longer names, and no bundle has deeper folders.
_MAX_PATH_CHARS = 255


class BundleError(ValueError):
    """A folder is not a whole, unchanged bundle; the message says which file, what was expected and what was found."""


class SignatureError(BundleError):
    """A bundle is not proved to be what a trusted key signed; the message says expected, got and what to do next."""


def read_manifest(folder: Path) -> bundle_pb2.Bundle:
    """The manifest of `folder`, checked in itself; file contents are not read (see `check_files`).

    Raises:
        BundleError: there is no manifest, it can't be parsed, is of another format version, or names a path outside.
    """
    return parse_manifest(folder, manifest_bytes(folder))


def manifest_bytes(folder: Path) -> bytes:
    """The manifest of `folder` as it lies there, to be judged before it is parsed.

    Raises:
        BundleError: there is none, or it is too large.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder}: not a bundle: expected a file {MANIFEST}, found none. Make one with `bise export`."
        )
    size_bytes = path.stat().st_size
    if size_bytes > _MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{path}: expected at most {_MANIFEST_LIMIT_BYTES} bytes, got {size_bytes}")
    return path.read_bytes()


def parse_manifest(folder: Path, content: bytes) -> bundle_pb2.Bundle:
    """As `read_manifest`, of bytes that were read already."""
    path = folder / MANIFEST
    try:
        bundle = json_format.Parse(content.decode("utf-8"), bundle_pb2.Bundle(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a bundle manifest: {error!s:.300}. Export the model again.") from error
    if bundle.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: expected format_version {FORMAT_VERSION}, got {bundle.format_version}. "
            "Export the model with this version of bise, or serve it with the version that made it."
        )
    listed: set[str] = set()
    for file in bundle.files:
        # Each would be read and hashed once more.
        if file.path in listed:
            raise BundleError(f"{path}: expected each file once, got {file.path!r:.80} twice. Export the model again.")
        listed.add(file.path)
        _inside(folder, file.path)
        if not _SHA256.fullmatch(file.sha256):
            raise BundleError(
                f"{path}: {file.path!r}: expected a SHA-256 of 64 hexadecimal digits, got {file.sha256!r:.80}. "
                "Export the model again."
            )
    for name in (bundle.graph.model_file, *bundle.graph.weight_files, bundle.tokenizer.file):
        if name not in listed:
            raise BundleError(f"{path}: names {name!r:.80} but lists no size and hash for it. Export the model again.")
    return bundle


def check_files(
    folder: Path,
    bundle: bundle_pb2.Bundle,
    unread: Collection[str] = (),
    on_piece: Callable[[], object] = lambda: None,
) -> Iterator[bundle_pb2.File]:
    """Proves every file of the bundle by size and hash, yielding each once it is proved.

    Args:
        unread: files that nobody is going to read; of these only the size is proved.
        on_piece: called whenever another few bytes have been read.

    Raises:
        BundleError: a file is missing, has another size, or another hash than the manifest says.
    """
    for file in bundle.files:
        path = _inside(folder, file.path)
        if not path.is_file():
            raise BundleError(f"{path}: listed in {MANIFEST} but missing. Copy the whole bundle again.")
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            raise BundleError(f"{path}: expected {file.size_bytes} bytes, got {size_bytes}. Copy the bundle again.")
        if file.path not in unread and (digest := sha256(path, on_piece)) != file.sha256:
            raise BundleError(f"{path}: expected sha256 {file.sha256}, got {digest}. Copy the bundle again.")
        yield file


def sha256(path: Path, on_piece: Callable[[], object] = lambda: None) -> str:
    """The file's SHA-256 in lower-case hex, read in bounded pieces, with a call after each."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_HASH_CHUNK_BYTES):
            digest.update(piece)
            on_piece()
    return digest.hexdigest()


def describe(folder: Path, name: str) -> bundle_pb2.File:
    """The manifest entry of the file `name` (relative, forward slashes) in `folder`."""
    path = _inside(folder, name)
    return bundle_pb2.File(path=name, size_bytes=path.stat().st_size, sha256=sha256(path))


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name)
    # One spelling for each file, or it could be listed, and so hashed, many times.
    if not name.isprintable() or len(name) > _MAX_PATH_CHARS or str(parts) != name or name == ".":
        raise BundleError(
            f"{folder / MANIFEST}: expected plain relative paths of at most {_MAX_PATH_CHARS} characters, "
            f"got {name!r:.80}. Export the model again."
        )
    path = folder / parts
    if parts.is_absolute() or ".." in parts.parts or not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(
            f"{folder / MANIFEST}: names {name!r}, which is outside the bundle's folder. Do not trust it."
        )
    return path
