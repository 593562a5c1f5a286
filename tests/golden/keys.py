"""Pairs of keys as `openssl genpkey` and `openssl pkey -pubout` write them, the same in each run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
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


def signature_of(payload: bytes, keys: Keys) -> bytes:
    """A file as model-signing writes it, the same in each run, over whatever the payload says; for keys on P-256."""
    kind = "application/vnd.in-toto+json"
    key = load_pem_private_key(keys.private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signature = key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    return json.dumps({"verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": envelope}).encode()
