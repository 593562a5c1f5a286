"""Whatever lies in a bundle's folder: it is read, or refused as a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.chat.format import load_chat_format
from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer
from bise_daemon.chat.tokenizer import load_tokenizer
from bise_daemon.models.geometry import check_geometry
from bise_export.inspection import render
from bise_proto.bundle import MANIFEST, BundleError, SignatureError, check_files, read_manifest, sha256
from bise_proto.trust.bundle import read_signed
from bise_proto.trust.key import TrustedKey
from bise_proto.trust.signature import SIGNATURE, claimed_identity
from bise_proto.v1 import bundle_pb2
from golden.checkpoints import write_tekken
from golden.keys import signature_of, write_keys
from property.hostile import FUZZ, changed_bytes, changed_json, hostile_json, survives

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@FUZZ
@given(data=st.data())
def test_any_manifest(folder: Path, tiny_bundle: Path, data: st.DataObject) -> None:
    content = data.draw(hostile_json((tiny_bundle / MANIFEST).read_bytes()))
    (folder / MANIFEST).write_bytes(content)

    def read() -> None:
        bundle = read_manifest(folder)
        render(bundle, folder)
        check_geometry(folder, bundle)
        list(check_files(folder, bundle))

    survives(read, BundleError)


@pytest.mark.parametrize("trusted", [False, True], ids=["by anybody", "by a trusted key"])
@FUZZ
@given(data=st.data())
def test_any_signature(folder: Path, data: st.DataObject, trusted: bool) -> None:
    keys = write_keys(folder.parent, "ours")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.name != SIGNATURE)
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files"},
            "resources": [{"name": n, "algorithm": "sha256", "digest": sha256(folder / n)} for n in names],
        },
    }
    if trusted:  # who signs what makes no sense
        changed = data.draw(changed_json(json.dumps(statement).encode()))
        content = signature_of(changed, keys)
    else:
        content = data.draw(hostile_json(signature_of(json.dumps(statement).encode(), keys)))
    (folder / SIGNATURE).write_bytes(content)
    survives(lambda: read_signed(folder, [TrustedKey.read(keys.public)]), SignatureError)
    survives(lambda: claimed_identity(folder / SIGNATURE), SignatureError)


@FUZZ
@given(data=st.data())
def test_any_key(tmp_path: Path, data: st.DataObject) -> None:
    file = write_keys(tmp_path, "ours").public
    file.write_bytes(data.draw(changed_bytes(file.read_bytes())))
    survives(lambda: TrustedKey.read(file), SignatureError)


@pytest.mark.parametrize("name", ["tokenizer.json", "special_tokens.json", "chat_template.jinja"])
@FUZZ
@given(data=st.data())
def test_any_tokenizer(folder: Path, tiny_bundle: Path, data: st.DataObject, name: str) -> None:
    valid = (tiny_bundle / "tokenizer" / name).read_bytes()
    content = data.draw(changed_bytes(valid) if name.endswith("jinja") else hostile_json(valid))
    (folder / "tokenizer" / name).write_bytes(content)
    bundle = read_manifest(folder)
    survives(lambda: load_chat_format(folder, bundle, load_tokenizer(folder, bundle)), BundleError)


@FUZZ
@given(data=st.data())
def test_any_tekken_file(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "tekken.json"
    write_tekken(path, 320)
    path.write_bytes(data.draw(hostile_json(path.read_bytes())))
    info = bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.TEKKEN, file="tekken.json", eos_token_ids=[2])
    survives(lambda: MistralCommonTokenizer.from_file(path, info), BundleError)
