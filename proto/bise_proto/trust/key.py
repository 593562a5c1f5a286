"""Public keys, as `openssl` writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from bise_proto.bundle import SignatureError

_LIMIT_BYTES = 64 << 10
_SHOWN = 12
# The curves model-signing takes, with the hash that goes with each.
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key.

    Attributes:
        file: where it was read.
        identity: the SHA-256 of its PEM form, by which signatures name it.
    """

    file: Path
    identity: str
    key: ec.EllipticCurvePublicKey

    @classmethod
    def of(cls, file: Path, key: ec.EllipticCurvePublicKey) -> TrustedKey:
        """A key that is there already.

        Raises:
            SignatureError: it is on a curve that model-signing does not take.
        """
        if key.curve.name not in _HASHES:
            raise _no_key(file, f"one on {key.curve.name}")
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return cls(file, hashlib.sha256(pem).hexdigest(), key)

    @classmethod
    def read(cls, file: Path) -> TrustedKey:
        """The key in a PEM file, as `openssl pkey -pubout` writes it.

        Raises:
            SignatureError: the file can't be read, or holds no such key.
        """
        try:
            with file.open("rb") as stream:
                key = load_pem_public_key(stream.read(_LIMIT_BYTES))
        except OSError as error:
            raise _no_key(file, error.strerror or "no file") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _no_key(file, "something else") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise _no_key(file, "one of another kind")
        return cls.of(file, key)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is one of `message` by this key."""
        try:
            self.key.verify(signature, message, ec.ECDSA(_HASHES[self.key.curve.name]()))
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.file} ({self.identity[:_SHOWN]})"


def _no_key(file: Path, got: str) -> SignatureError:
    return SignatureError(
        f"{file}: expected a public EC key on P-256, P-384 or P-521 in PEM, got {got}. "
        "Make one from the private key with `openssl pkey -in PRIVATE.pem -pubout -out PUBLIC.pem`."
    )
