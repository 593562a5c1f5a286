"""Signing a bundle with a key, offline, as OpenSSF's model-signing does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bise_export.errors import ExportError
from bise_proto.bundle import read_manifest
from bise_proto.trust.bundle import SignedBundle, check_signed
from bise_proto.trust.key import TrustedKey
from bise_proto.trust.signature import SIGNATURE, read_signature

_KEY_LIMIT_BYTES = 64 << 10


def sign(folder: Path, key: Path, ask_password: Callable[[], str]) -> SignedBundle:
    """Signs every byte of the bundle in `folder`, in place of an earlier signature.

    Files are hashed once. What was signed is then read as a daemon would, so a bundle that a daemon would refuse gets
    no signature, and keeps the one it has.

    Args:
        folder: the bundle.
        key: an EC private key in PEM.
        ask_password: for the key's password, if it has one.

    Raises:
        BundleError: the bundle is not whole, or holds more than its manifest says, or its name or version is none.
        ExportError: the key is none.
    """
    # Imported here, since it loads what it needs for the network as well: half a second for `bise inspect` otherwise.
    from model_signing import hashing, signing

    folder = folder.resolve()
    read_manifest(folder)
    public, password = _public_key(key, ask_password)
    draft = folder.with_name(f".{folder.name}.sig")
    # Hidden files are signed like others: by default the library leaves out git's.
    files = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    signer = signing.Config().set_hashing_config(files)
    # The library calls a password a str, and takes bytes only.
    signer.use_elliptic_key_signer(private_key=key, password=password)  # type: ignore[arg-type]
    try:
        try:
            signer.sign(folder, draft)
        except ValueError as error:
            raise ExportError(f"{folder}: can't be signed: {error}. A bundle holds plain files only.") from error
        signed = check_signed(folder, read_signature(draft, [public]))
        draft.replace(folder / SIGNATURE)
    finally:
        draft.unlink(missing_ok=True)
    return signed


def _public_key(path: Path, ask_password: Callable[[], str]) -> tuple[TrustedKey, bytes | None]:
    """The public half of a private key, and the password that opened it."""
    with path.open("rb") as stream:
        pem = stream.read(_KEY_LIMIT_BYTES)
    password = None
    try:
        try:
            key = load_pem_private_key(pem, None)
        except TypeError:  # it has a password
            password = ask_password().encode()
            key = load_pem_private_key(pem, password)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "something else, or another password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _no_key(path, "one of another kind")
    return TrustedKey.of(path, key.public_key()), password


def _no_key(path: Path, got: str) -> ExportError:
    return ExportError(
        f"{path}: expected a private EC key on P-256, P-384 or P-521 in PEM, got {got}. "
        "Make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out PRIVATE.pem`."
    )
