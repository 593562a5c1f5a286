"""Bundles that are what a trusted key signed: these files, all of them, and nothing beside them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from bise_proto.bundle import MANIFEST, SignatureError, manifest_bytes, parse_manifest
from bise_proto.trust.key import TrustedKey
from bise_proto.trust.signature import SIGNATURE, Signature, read_signature
from bise_proto.v1 import bundle_pb2

_MAX_NAME_CHARS = 200
_MAX_VERSION_CHARS = 100


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A manifest that a trusted key vouches for. Its files are listed by that key too, but not hashed yet.

    Attributes:
        folder: the bundle's, links on the way to it resolved.
        manifest: the bytes that were signed.
        bundle: what they say.
        version: the bundle's, to compare with others of its name.
        key: that signed.
    """

    folder: Path
    manifest: bytes
    bundle: bundle_pb2.Bundle
    version: Version
    key: TrustedKey


def read_signed(folder: Path, keys: Sequence[TrustedKey]) -> SignedBundle:
    """The manifest of `folder`, if one of `keys` has signed it and exactly the files that it lists.

    Nothing of the bundle is parsed before the signature holds, but the signature itself.

    Raises:
        SignatureError: the bundle is unsigned, signed by another key, or holds more, less or others than was signed.
        BundleError: the manifest is wrong in itself.
    """
    return check_signed(folder, read_signature(folder / SIGNATURE, keys))


def check_signed(folder: Path, signature: Signature) -> SignedBundle:
    """As `read_signed`, with a signature that was read already."""
    folder = folder.resolve()
    path = folder / MANIFEST
    content = manifest_bytes(folder)
    sha256 = dict(signature.sha256)
    signed, found = sha256.pop(MANIFEST, "none"), hashlib.sha256(content).hexdigest()
    if signed != found:
        raise SignatureError(
            f"{path}: expected sha256 {signed:.64}, as it was signed, got {found}: it was altered. "
            "Copy the whole bundle again, or sign it again if the change is yours."
        )
    bundle = parse_manifest(folder, content)
    listed = {file.path: file.sha256 for file in bundle.files}
    for name in sorted(listed.keys() | sha256.keys()):
        says, signed = listed.get(name, "none"), sha256.get(name, "none")
        if says != signed:
            raise SignatureError(
                f"{folder}: {name!r:.80}: expected sha256 {says}, as {MANIFEST} says, got {signed:.64}, as was signed: "
                "they are not of one bundle. Copy or export the whole bundle again, and sign that."
            )
    _check_files(folder, {MANIFEST, *listed})
    return SignedBundle(folder, content, bundle, _version(path, bundle), signature.key)


def _check_files(folder: Path, expected: set[str]) -> None:
    """Proves that plain files of these names are in the folder, beside the signature, and nothing else."""
    found = set()
    folders = {parent.as_posix() for name in expected for parent in Path(name).parents}
    for name, mode in _entries(folder, folders):
        if name not in expected | {SIGNATURE} and name not in folders:
            raise SignatureError(f"{folder}: expected only what was signed, got {name!r:.80} too. Remove it.")
        if not (stat.S_ISREG if name not in folders else stat.S_ISDIR)(mode):
            raise SignatureError(
                f"{folder / name}: expected a plain file or folder, as it was signed, got a link or something else. "
                "Copy the whole bundle again."
            )
        found.add(name)
    if missing := sorted(expected - found):
        raise SignatureError(f"{folder / missing[0]}: signed but missing. Copy the whole bundle again.")


def _entries(folder: Path, folders: set[str]) -> Iterator[tuple[str, int]]:
    """What is in the folder, by path within it, with its mode; of those folders below it, what is in them too."""
    waiting = [""]
    while waiting:
        within = waiting.pop()
        with os.scandir(folder / within) as entries:
            for entry in entries:
                name = f"{within}/{entry.name}" if within else entry.name
                yield name, entry.stat(follow_symlinks=False).st_mode
                if name in folders:
                    waiting.append(name)


def _version(path: Path, bundle: bundle_pb2.Bundle) -> Version:
    """The version, if it and the name can be told and compared."""
    if not (0 < len(bundle.name) <= _MAX_NAME_CHARS and bundle.name.isprintable()):
        raise SignatureError(
            f"{path}: name: expected 1 to {_MAX_NAME_CHARS} printable characters, got {bundle.name!r:.80}. "
            "Export the model with another --name."
        )
    try:
        if len(bundle.version) <= _MAX_VERSION_CHARS:
            return Version(bundle.version)
    except InvalidVersion:
        pass
    raise SignatureError(
        f"{path}: version: expected one that can be compared, such as 2, 1.4.0 or 2.0rc1, got {bundle.version!r:.80}. "
        "Export the model with another --version."
    )
