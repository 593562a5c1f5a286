"""What a daemon with trusted keys refuses, before onnxruntime sees a byte of it; and what it remembers."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bise import Client
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.load import config_from_flags
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Reading
from bise_daemon.models import model as model_module
from bise_daemon.models import specialising as specialising_module
from bise_daemon.models.check import CheckedBundle, check_bundle
from bise_daemon.models.model import Model, load_model
from bise_daemon.models.versions import FILE
from bise_export.signing import sign
from bise_proto.bundle import MANIFEST, BundleError
from bise_proto.trust.signature import SIGNATURE
from golden.keys import Keys, write_keys
from running import running


class Forbidden:
    """A session that must not be made."""

    def __init__(self, *_arguments: object) -> None:
        raise AssertionError("onnxruntime was reached")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="module")
def other_keys(keys: Keys) -> Keys:
    return write_keys(keys.private.parent, "others", 7)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, keys: Keys) -> Path:
    """A signed bundle of one's own."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    return signed(folder, keys, "2.0")


def signed(folder: Path, keys: Keys, version: str, name: str = "tiny") -> Path:
    """The bundle as another version, signed."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"version": version, "name": name}))
    sign(folder, keys.private, lambda: "")
    return folder


def load(folder: Path, keys: Keys, **settings: Any) -> Model:
    asked = {
        "bundle": str(folder),
        "listen": f"unix://{folder}.sock",
        "threads": 1,
        "slots": 1,
        "state_dir": f"{folder}.state",
        "trusted_keys": [str(keys.public)],
        "require_signature": True,
    }
    return load_model(config_from_flags(asked | settings))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, keys: Keys) -> Callable[..., str]:
    """Loads a bundle that must be refused before a session is made; says with what words."""

    def refuse(folder: Path, trusted: Keys = keys, **settings: Any) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(specialising_module, "Session", Forbidden)
            with pytest.raises(BundleError) as refusal:
                load(folder, trusted, **settings)
        return str(refusal.value)

    return refuse


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_signed_bundle_is_served_and_its_version_remembered(
    bundle: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert load(bundle, keys).bundle.version == "2.0"
    assert f"tiny 2.0 is signed by {keys.public} (" in caplog.text
    digest, body = bundle.with_name(f"{bundle.name}.state").joinpath(FILE).read_text().splitlines()
    assert (len(digest), json.loads(body)) == (64, {"tiny": "2.0"})


def test_the_forbidden_session_would_be_reached(bundle: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specialising_module, "Session", Forbidden)
    with pytest.raises(AssertionError, match="onnxruntime was reached"):
        load(bundle, keys)
    assert not bundle.with_name(f"{bundle.name}.state").exists(), "nothing is accepted before it is loaded"


@pytest.mark.parametrize(
    "name",
    [
        MANIFEST,
        SIGNATURE,
        "model.onnx",
        "model.onnx.data",
        "tokenizer/tokenizer.json",
        "tokenizer/chat_template.jinja",
        "tokenizer/special_tokens.json",
    ],
)
def test_a_flipped_bit_in_any_file_is_refused(bundle: Path, refused: Callable[..., str], name: str) -> None:
    flip(bundle / name)
    assert refused(bundle).startswith(str(bundle))


def test_every_kind_of_file_was_flipped(bundle: Path) -> None:
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert len(names) == 7


def test_an_unsigned_bundle_is_refused(bundle: Path, refused: Callable[..., str]) -> None:
    (bundle / SIGNATURE).unlink()
    assert "expected a signature, bundle.sig, by a trusted key, got none" in refused(bundle)


def test_another_key_is_refused(bundle: Path, other_keys: Keys, refused: Callable[..., str]) -> None:
    signed(bundle, other_keys, "2.0")
    assert "got one by another key" in refused(bundle)


def test_a_signature_of_another_version_is_refused(bundle: Path, keys: Keys, refused: Callable[..., str]) -> None:
    old = (bundle / SIGNATURE).read_bytes()
    signed(bundle, keys, "2.1")
    (bundle / SIGNATURE).write_bytes(old)
    assert "bundle.json: expected sha256" in refused(bundle)


def test_a_truncated_signature_is_refused(bundle: Path, refused: Callable[..., str]) -> None:
    os.truncate(bundle / SIGNATURE, 1000)
    assert "expected a signature of model-signing 1.0" in refused(bundle)


def test_a_link_in_the_bundle_is_refused(bundle: Path, refused: Callable[..., str]) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to("model.onnx.data")
    assert "got a link" in refused(bundle)


def test_a_file_beside_is_refused(bundle: Path, refused: Callable[..., str]) -> None:
    (bundle / "other.data").write_bytes(b"")
    assert "expected only what was signed, got 'other.data' too" in refused(bundle)


@pytest.mark.parametrize("name", ["model.onnx.data", "tokenizer", ".", ".."])
def test_what_others_can_change_is_refused(bundle: Path, refused: Callable[..., str], name: str) -> None:
    path = (bundle / name).resolve()
    mode = path.stat().st_mode
    path.chmod(mode | 0o020)
    assert f"{path}: expected that only root and user {os.geteuid()}, the daemon's, can change it" in refused(bundle)
    path.chmod(mode)


def test_a_state_that_others_can_change_is_refused(bundle: Path, keys: Keys, refused: Callable[..., str]) -> None:
    load(bundle, keys)
    state = bundle.with_name(f"{bundle.name}.state")
    state.chmod(0o777)
    assert f"{state}: expected that only root" in refused(bundle)


def test_an_older_version_is_refused_with_both(bundle: Path, keys: Keys, refused: Callable[..., str]) -> None:
    load(bundle, keys)
    signed(bundle, keys, "2.0rc1")
    assert "expected tiny 2.0 or later, which this device had, got 2.0rc1" in refused(bundle)
    assert load(signed(bundle, keys, "2.0"), keys).bundle.version == "2.0"
    assert load(signed(bundle, keys, "2.10"), keys).bundle.version == "2.10"
    signed(bundle, keys, "2.9")
    assert "expected tiny 2.10 or later" in refused(bundle)


def test_versions_are_remembered_by_name(bundle: Path, keys: Keys) -> None:
    load(bundle, keys)
    assert load(signed(bundle, keys, "1", "small"), keys).bundle.name == "small"


def test_a_downgrade_that_is_allowed_is_remembered_in_turn(
    bundle: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    load(bundle, keys)
    signed(bundle, keys, "1.5")
    assert load(bundle, keys, allow_downgrade=True).bundle.version == "1.5"
    assert "tiny 1.5 replaces the later 2.0: allow_downgrade is on" in caplog.text
    assert load(bundle, keys).bundle.version == "1.5"


def test_a_bundle_that_does_not_load_is_not_accepted(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    load(bundle, keys)
    newer = shutil.copytree(bundle, tmp_path / "newer")
    manifest = json.loads((newer / MANIFEST).read_text())
    manifest["tokenizer"]["kind"] = "TEKKEN"  # which the file is not
    (newer / MANIFEST).write_text(json.dumps(manifest))
    signed(newer, keys, "3.0")
    with pytest.raises(BundleError):
        load(newer, keys, state_dir=f"{bundle}.state")
    assert load(bundle, keys).bundle.version == "2.0"


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 200, b"x" * 100_000], ids=["empty", "bare", "noise", "long"])
def test_damaged_versions_are_refused_until_a_person_removes_them(
    bundle: Path, keys: Keys, refused: Callable[..., str], damage: bytes
) -> None:
    load(bundle, keys)
    versions = bundle.with_name(f"{bundle.name}.state") / FILE
    versions.write_bytes(damage)
    assert f"{versions}: expected the versions accepted so far, as they were saved, got" in refused(bundle)
    versions.unlink()
    assert load(signed(bundle, keys, "1.0"), keys).bundle.version == "1.0"


def test_a_version_that_can_not_be_remembered_is_not_served(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BundleError, match=r"versions\.json"):
        load(bundle, keys, state_dir=str(tmp_path / "file"))


def test_without_a_requirement_no_signature_is_a_warning(
    bundle: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle / SIGNATURE).unlink()
    assert load(bundle, keys, require_signature=False).bundle.name == "tiny"
    assert "not signed, and loaded all the same: require_signature is off" in caplog.text


@pytest.mark.parametrize("damage", [lambda path: flip(path), lambda path: (path.unlink(), path.symlink_to("nothing"))])
def test_without_a_requirement_a_wrong_signature_is_refused_all_the_same(
    bundle: Path, refused: Callable[..., str], damage: Callable[[Path], object]
) -> None:
    damage(bundle / SIGNATURE)
    assert "signature" in refused(bundle, require_signature=False)


def test_what_was_checked_is_what_is_loaded(
    bundle: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle)

    def check_and_turn(config: DaemonConfig, memory: Reading, *others: Any) -> CheckedBundle:
        checked = check_bundle(config, memory, *others)
        link.unlink()
        link.symlink_to(tmp_path / "elsewhere")
        return checked

    monkeypatch.setattr(model_module, "check_bundle", check_and_turn)
    assert load(link, keys, state_dir=str(tmp_path / "state")).bundle.version == "2.0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["model.onnx.data", ".", ".."])
def test_what_belongs_to_somebody_else_is_refused(bundle: Path, refused: Callable[..., str], name: str) -> None:
    os.chown((bundle / name).resolve(), 54321, -1)
    assert "got owner 54321" in refused(bundle)


@pytest.mark.slow
def test_a_refused_offer_leaves_the_running_model_alone(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    with running(bundle, tmp_path) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        before = client.generate("Hi", max_tokens=4, ignore_eos=True).text
        offered = shutil.copytree(bundle, tmp_path / "offered")
        flip(offered / "model.onnx.data")
        config = config_from_flags(
            {"bundle": str(offered), "trusted_keys": [str(keys.public)], "state_dir": str(tmp_path / "state")}
        )
        with pytest.raises(BundleError, match=r"model\.onnx\.data: expected sha256"):
            check_bundle(config, read_memory())
        assert client.generate("Hi", max_tokens=4, ignore_eos=True).text == before
