"""Signatures: which key vouches for which bytes.

`bundle.sig` has the form of OpenSSF's model-signing 1.0: a Sigstore bundle around a DSSE envelope (section "Signature
Definition" of DSSE's protocol, v1.0.2) around an in-toto statement that lists the SHA-256 of every file, bundle.json
among them. `bise sign` has it made by the model-signing library, whose own command can verify it too. It is checked
here without that library, which hashes every file itself and takes 0.4 s and 24 MiB to import, for a network nobody
uses: the files are hashed anyway, against the manifest, so it is enough that signature and manifest list the same.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bise_proto.bundle import SignatureError
from bise_proto.trust.key import TrustedKey

SIGNATURE = "bundle.sig"

_LIMIT_BYTES = 8 << 20  # the manifest's limit, in base64
_SHOWN = 12
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a trusted key has signed: the SHA-256, in hex, of each file by its path within the bundle."""

    key: TrustedKey
    sha256: Mapping[str, str]


def read_signature(path: Path, keys: Sequence[TrustedKey]) -> Signature:
    """The signature in the file at `path`, if it is by one of `keys`.

    Raises:
        SignatureError: there is none, it is no signature, or none of these keys made it.
    """
    if not path.is_file():
        raise SignatureError(
            f"{path.parent}: expected a signature, {path.name}, by a trusted key, got none. "
            "Sign the bundle with `bise sign`."
        )
    payload, signature, identity = _envelope(path)
    message = b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)
    for key in keys:
        if key.signed(message, signature):
            return Signature(key, _listed(path, payload))
    trusted = ", ".join(map(str, keys))
    if any(key.identity == identity for key in keys):
        raise SignatureError(
            f"{path}: expected what {trusted} signed, got a signature that does not hold: it was altered. "
            "Copy the whole bundle again."
        )
    raise SignatureError(
        f"{path}: expected a signature by {trusted}, got one by another key ({identity[:_SHOWN]!r}). "
        "Get the bundle from who holds a trusted key, or trust that key too."
    )


def claimed_identity(path: Path) -> str:
    """The key that the signature in the file at `path` names, as `TrustedKey.identity`. Anybody can write that.

    Raises:
        SignatureError: it is no signature, or names no key.
        OSError: there is none.
    """
    identity = _envelope(path)[2]
    if not _IDENTITY.fullmatch(identity):
        raise _no_signature(path, f"one by {identity!r:.80}")
    return identity


def _envelope(path: Path) -> tuple[bytes, bytes, str]:
    """What is said to be signed, the signature, and the name of its key; all of it still anybody's word."""
    with path.open("rb") as stream:
        content = stream.read(_LIMIT_BYTES + 1)
    if len(content) > _LIMIT_BYTES:
        raise _no_signature(path, f"more than {_LIMIT_BYTES} bytes")
    values = _json(path, content)
    match values:
        case {
            "dsseEnvelope": {
                "payload": str(payload),
                "payloadType": str(kind),
                "signatures": [{"sig": str(signature)}],
            }
        } if kind == _PAYLOAD_TYPE:
            pass
        case _:
            raise _no_signature(path, "other JSON")
    match values:
        case {"verificationMaterial": {"publicKey": {"hint": str(identity)}}}:
            pass
        case _:
            identity = "unnamed"
    try:
        return base64.b64decode(payload, validate=True), base64.b64decode(signature, validate=True), identity
    except ValueError as error:
        raise _no_signature(path, "no base64") from error


def _json(path: Path, content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _no_signature(path, "no JSON") from error


def _listed(path: Path, payload: bytes) -> dict[str, str]:
    """SHA-256 by name, of a payload that a trusted key has signed."""
    match _json(path, payload):
        case {
            "_type": str(statement),
            "predicateType": str(predicate),
            "predicate": {"serialization": {"method": "files"}, "resources": list(resources)},
        } if (statement, predicate) == (_STATEMENT_TYPE, _PREDICATE_TYPE):
            pass
        case _:
            raise _no_signature(path, "a statement of another kind")
    sha256: dict[str, str] = {}
    for resource in resources:
        match resource:
            case {"name": str(name), "algorithm": "sha256", "digest": str(digest)} if name not in sha256:
                sha256[name] = digest
            case _:
                raise _no_signature(path, f"{resource!r:.80} in its list")
    return sha256


def _no_signature(path: Path, got: str) -> SignatureError:
    return SignatureError(
        f"{path}: expected a signature of model-signing 1.0 by a key, over whole files, got {got}. "
        "Copy the whole bundle again, or sign it with `bise sign`."
    )
