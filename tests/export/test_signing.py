"""`bise sign`, and `bise verify` with a trusted key: a bundle that can't be served gets no signature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from bise_export import bundle_commands
from bise_proto.bundle import MANIFEST
from bise_proto.trust.signature import SIGNATURE
from golden.keys import Keys, write_keys

APP = typer.Typer()
for command in (bundle_commands.sign, bundle_commands.verify):
    APP.command()(command)


def bise(*arguments, said=None):
    return CliRunner().invoke(APP, [str(each) for each in arguments], input=said)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return write_keys(tmp_path, "ours")


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, unsigned."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def refusal(ran) -> str:
    assert ran.exit_code == 1, ran.output
    return ran.stderr.splitlines()[-1]


def rewrite(folder: Path, **values: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


@pytest.mark.slow
def test_what_is_signed_is_verified(folder, keys):
    signed = bise("sign", folder, "--key", keys.private)
    assert signed.exit_code == 0
    assert f"tiny 1 is signed by {keys.private} (" in signed.stderr
    assert sorted(path.name for path in folder.parent.iterdir()) == ["bundle", "ours.pem", "ours.pub.pem"]

    shown = bise("verify", folder, "--trusted-key", keys.public)
    told = bise("verify", folder, "--trusted-key", keys.public, "--json")
    unchecked = bise("verify", folder)
    assert (shown.exit_code, told.exit_code, unchecked.exit_code) == (0, 0, 0)
    assert "by " in shown.stdout
    assert json.loads(told.stdout)["signer"].startswith(str(keys.public))
    assert "--trusted-key" in unchecked.stdout


def test_verify_refuses_an_unsigned_bundle_and_another_key(folder, keys, tmp_path):
    other = write_keys(tmp_path, "other", 7)
    assert "expected a signature" in refusal(bise("verify", folder, "--trusted-key", keys.public))
    bise("sign", folder, "--key", keys.private)
    assert "got one by another key" in refusal(bise("verify", folder, "--trusted-key", other.public))


def test_a_key_with_a_password_asks_for_it(folder, tmp_path):
    keys = write_keys(tmp_path, "locked", password=b"bora")
    assert bise("sign", folder, "--key", keys.private, said="bora\n").exit_code == 0
    assert "another password" in refusal(bise("sign", folder, "--key", keys.private, said="foehn\n"))


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer/tokenizer.json"])
def test_an_altered_bundle_gets_no_signature_and_keeps_the_one_it_has(folder, keys, name):
    bise("sign", folder, "--key", keys.private)
    before = (folder / SIGNATURE).read_bytes()
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)

    line = refusal(bise("sign", folder, "--key", keys.private))

    assert f"'{name}': expected sha256 " in line
    assert (folder / SIGNATURE).read_bytes() == before


def test_a_file_that_the_manifest_does_not_list_is_not_signed(folder, keys):
    (folder / ".gitignore").write_text("")
    assert "'.gitignore': expected sha256 none, as bundle.json says" in refusal(
        bise("sign", folder, "--key", keys.private)
    )
    assert not (folder / SIGNATURE).exists()


def test_a_link_is_not_signed(folder, keys):
    (folder / "link").symlink_to("model.onnx")
    line = refusal(bise("sign", folder, "--key", keys.private))
    assert "can't be signed" in line
    assert line.endswith("A bundle holds plain files only.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "latest"}, "version: expected one that can be compared, such as 2, 1.4.0 or 2.0rc1, got 'latest'"),
        ({"version": ""}, "got ''"),
        ({"version": "1" * 101}, "version: expected one that can be compared"),
        ({"name": ""}, "name: expected 1 to 200 printable characters"),
        ({"name": "a\nb"}, r"got 'a\nb'"),
    ],
)
def test_what_no_daemon_could_compare_is_not_signed(folder, keys, values, message):
    rewrite(folder, **values)
    assert message in refusal(bise("sign", folder, "--key", keys.private))


def test_what_is_no_private_key_is_refused_with_how_to_make_one(folder, keys, tmp_path):
    koblitz = write_keys(tmp_path, "koblitz", 7, ec.SECP256K1())
    assert "`openssl genpkey" in refusal(bise("sign", folder, "--key", keys.public))
    assert "P-256" in refusal(bise("sign", folder, "--key", koblitz.private))
    assert "No such file" in refusal(bise("sign", folder, "--key", tmp_path / "missing"))
    assert "not a bundle" in refusal(bise("sign", tmp_path, "--key", keys.private))
