"""A signed bundle is what a trusted key signed, whole and nothing more; everything else is refused by name."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bise_export.signing import sign
from bise_proto.bundle import MANIFEST, BundleError, SignatureError
from bise_proto.trust.bundle import SignedBundle, read_signed
from bise_proto.trust.key import TrustedKey
from bise_proto.trust.signature import SIGNATURE, claimed_identity
from golden.keys import Keys, signature_of, write_keys


def no_password() -> str:
    raise AssertionError("the key has none")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="module")
def signed_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    folder = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("signed") / "tiny")
    sign(folder, keys.private, no_password)
    return folder


@pytest.fixture
def folder(signed_bundle: Path, tmp_path: Path) -> Path:
    """A signed bundle of one's own."""
    return shutil.copytree(signed_bundle, tmp_path / "bundle")


def read(folder: Path, *trusted: Path) -> SignedBundle:
    return read_signed(folder, [TrustedKey.read(each) for each in trusted])


def resigned(folder: Path, keys: Keys, change: Callable[[dict[str, Any]], None]) -> None:
    """Signs another statement than the library would."""
    path = folder / SIGNATURE
    statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))
    change(statement)
    path.write_bytes(signature_of(json.dumps(statement).encode(), keys))


def test_a_signed_bundle_is_read_with_its_key_and_version(folder: Path, keys: Keys) -> None:
    found = read(folder, keys.public)
    assert (found.bundle.name, str(found.version), found.key.file) == ("tiny", "1", keys.public)
    assert found.manifest == (folder / MANIFEST).read_bytes()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_every_curve_of_model_signing_will_do(folder: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    keys = write_keys(tmp_path, "other", 7, curve)
    sign(folder, keys.private, no_password)
    assert read(folder, keys.public).key.file == keys.public


def test_one_of_several_keys_is_enough(folder: Path, tmp_path: Path, keys: Keys) -> None:
    other = write_keys(tmp_path, "other", 7)
    assert read(folder, other.public, keys.public).key.file == keys.public


@pytest.mark.slow
def test_the_librarys_own_command_verifies_it_and_signs_for_us(folder: Path, keys: Keys) -> None:
    def library(verb: str, *key: str | Path) -> None:
        command = [sys.executable, "-m", "model_signing", verb, "key", folder, "--signature", folder / SIGNATURE, *key]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    library("verify", "--public_key", keys.public)
    (folder / SIGNATURE).unlink()
    library("sign", "--private_key", keys.private)
    assert read(folder, keys.public).bundle.name == "tiny"


def test_another_key_is_named_beside_those_trusted(folder: Path, tmp_path: Path, keys: Keys) -> None:
    other = write_keys(tmp_path, "other", 7)
    identity = TrustedKey.read(keys.public).identity[:12]
    with pytest.raises(SignatureError) as refusal:
        read(folder, other.public)
    assert f"expected a signature by {other.public} (" in str(refusal.value)
    assert f"got one by another key ('{identity}')" in str(refusal.value)


def test_a_signature_that_names_our_key_is_not_one_by_it(folder: Path, tmp_path: Path, keys: Keys) -> None:
    other = write_keys(tmp_path, "other", 7)
    sign(folder, other.private, no_password)
    values = json.loads((folder / SIGNATURE).read_bytes())
    values["verificationMaterial"]["publicKey"]["hint"] = TrustedKey.read(keys.public).identity
    (folder / SIGNATURE).write_text(json.dumps(values))
    with pytest.raises(SignatureError, match="got a signature that does not hold: it was altered"):
        read(folder, keys.public)


def test_the_key_a_signature_names_is_the_fingerprint_of_its_file(folder: Path, keys: Keys) -> None:
    assert claimed_identity(folder / SIGNATURE) == hashlib.sha256(keys.public.read_bytes()).hexdigest()


@pytest.mark.parametrize("hint", ["", "ab", "A" * 64, "0" * 65, "\x1b[31m" + "0" * 59])
def test_a_signature_that_names_no_key_is_told(folder: Path, hint: str) -> None:
    values = json.loads((folder / SIGNATURE).read_bytes())
    values["verificationMaterial"]["publicKey"]["hint"] = hint
    (folder / SIGNATURE).write_text(json.dumps(values))
    with pytest.raises(SignatureError, match="got one by"):
        claimed_identity(folder / SIGNATURE)


def test_no_signature_is_refused_with_what_to_do(folder: Path, keys: Keys) -> None:
    (folder / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match=r"expected a signature, bundle\.sig, .* got none. Sign .* `bise sign`"):
        read(folder, keys.public)


def test_an_altered_manifest_is_not_even_parsed(folder: Path, keys: Keys) -> None:
    (folder / MANIFEST).write_bytes(b"{no JSON")
    with pytest.raises(SignatureError, match=r"bundle\.json: expected sha256 [0-9a-f]{64}, as it was signed, got"):
        read(folder, keys.public)


def test_a_signature_of_another_bundle_does_not_do(folder: Path, keys: Keys) -> None:
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"1"', '"2"', 1))
    whole = (folder / SIGNATURE).read_bytes()
    sign(folder, keys.private, no_password)
    read(folder, keys.public)
    (folder / SIGNATURE).write_bytes(whole)
    with pytest.raises(SignatureError, match="it was altered"):
        read(folder, keys.public)


@pytest.mark.parametrize("cut_bytes", [1, 100, 1000, None])
def test_a_truncated_signature_is_refused(folder: Path, keys: Keys, cut_bytes: int | None) -> None:
    path = folder / SIGNATURE
    path.write_bytes(b"" if cut_bytes is None else path.read_bytes()[:-cut_bytes])
    with pytest.raises(SignatureError, match=r"expected a signature of model-signing 1\.0 by a key.*got no JSON"):
        read(folder, keys.public)


def test_a_signature_too_large_is_refused_by_its_size(folder: Path, keys: Keys) -> None:
    os.truncate(folder / SIGNATURE, 9 << 20)
    with pytest.raises(SignatureError, match="got more than 8388608 bytes"):
        read(folder, keys.public)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda folder: (folder / "more").write_text("x"), "expected only what was signed, got 'more' too"),
        (lambda folder: (folder / ".hidden").write_text("x"), "got '.hidden' too"),
        (lambda folder: (folder / "tokenizer/more").write_text("x"), "got 'tokenizer/more' too"),
        (lambda folder: (folder / "deep").mkdir(), "got 'deep' too"),
        (lambda folder: os.mkfifo(folder / "pipe"), "got 'pipe' too"),
        (lambda folder: (folder / "link").symlink_to("model.onnx"), "got 'link' too"),
        (lambda folder: (folder / os.fsdecode(b"\xff")).touch(), r"got '\\udcff' too"),
    ],
    ids=["file", "hidden", "in a folder", "folder", "pipe", "link", "no UTF-8"],
)
def test_whatever_lies_beside_is_refused(folder: Path, keys: Keys, add: Callable[[Path], object], message: str) -> None:
    add(folder)
    with pytest.raises(SignatureError, match=message):
        read(folder, keys.public)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer", "tokenizer/tokenizer.json", MANIFEST, SIGNATURE])
def test_a_link_out_of_the_folder_is_refused_even_to_the_same_bytes(
    folder: Path, tmp_path: Path, keys: Keys, name: str
) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"got a link or something else|outside the bundle's folder"):
        read(folder, keys.public)


def test_a_link_within_the_folder_is_refused(folder: Path, keys: Keys) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx.data")
    with pytest.raises(SignatureError, match=r"model\.onnx: expected a plain file or folder, .* got a link"):
        read(folder, keys.public)


def test_a_link_to_the_folder_is_resolved_once(folder: Path, tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "current").symlink_to(folder)
    assert read(tmp_path / "current", keys.public).folder == folder


def test_a_signed_file_that_is_missing_is_named(folder: Path, keys: Keys) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(SignatureError, match=r"model\.onnx: signed but missing"):
        read(folder, keys.public)


def test_a_statement_as_the_library_writes_it_holds(folder: Path, keys: Keys) -> None:
    resigned(folder, keys, lambda _statement: None)
    assert read(folder, keys.public).bundle.name == "tiny"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["predicate"]["resources"].pop(), "expected sha256 .*, as bundle.json says, got none"),
        (lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]), "in its list"),
        (lambda s: s["predicate"]["resources"][0].update(algorithm="blake3"), "in its list"),
        (lambda s: s["predicate"]["serialization"].update(method="shards"), "a statement of another kind"),
        (lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"), "a statement of another kind"),
        (lambda s: s.update(predicate=[]), "a statement of another kind"),
    ],
    ids=["a file less", "a file twice", "another hash", "shards", "an older form", "something else"],
)
def test_a_trusted_key_can_sign_too_little(
    folder: Path, keys: Keys, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    resigned(folder, keys, change)
    with pytest.raises(SignatureError, match=message):
        read(folder, keys.public)


def test_a_file_that_is_no_public_key_is_refused(folder: Path, tmp_path: Path, keys: Keys) -> None:
    wrong = {"words": b"no key", "private": keys.private.read_bytes()}
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    wrong["edwards"] = edwards.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    write_keys(tmp_path, "koblitz", 7, ec.SECP256K1())
    for name in (*wrong, "koblitz.pub.pem", "missing"):
        with pytest.raises(SignatureError, match=r"expected a public EC key .* Make one .* `openssl pkey"):
            read(folder, tmp_path / name)
