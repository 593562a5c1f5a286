"""Pairs of keys as `openssl genpkey` and `openssl pkey -pubout` write them, the same in each run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


class Keys(NamedTuple):
    """Two PEM files."""

    private: Path
    public: Path


def write_keys(
    folder: Path, name: str, secret: int = 1, curve: ec.EllipticCurve | None = None, password: bytes | None = None
) -> Keys:
    """The pair whose private number is `secret`, on P-256 if not said, in `folder`."""
    key = ec.derive_private_key(secret, curve or ec.SECP256R1())
    keys = Keys(folder / f"{name}.pem", folder / f"{name}.pub.pem")
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    keys.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    keys.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return keys
