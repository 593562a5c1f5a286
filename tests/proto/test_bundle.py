"""Reading a bundle that may be broken or hostile: each wrong is named, with what was expected."""

from __future__ import annotations

import hashlib
import json

import pytest

from bise_proto.bundle import FORMAT_VERSION, MANIFEST, BundleError, check_files, describe, read_manifest, sha256

FILES = {"model.onnx": b"graph", "model.onnx.data": b"weights" * 1000, "tokenizer/tokenizer.json": b"{}"}


@pytest.fixture
def folder(tmp_path):
    """A whole bundle, as far as its manifest can tell."""
    found = tmp_path / "bundle"
    for name, content in FILES.items():
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_bytes(content)
    entries = [describe(found, name) for name in FILES]
    write(
        found,
        {
            "format_version": FORMAT_VERSION,
            "name": "small",
            "graph": {"target": "cpu", "model_file": "model.onnx", "weight_files": ["model.onnx.data"]},
            "tokenizer": {"kind": "TOKENIZERS", "file": "tokenizer/tokenizer.json"},
            "files": [
                {"path": entry.path, "size_bytes": str(entry.size_bytes), "sha256": entry.sha256} for entry in entries
            ],
        },
    )
    return found


def write(folder, manifest):
    (folder / MANIFEST).write_text(json.dumps(manifest))


def change(folder, **values):
    write(folder, json.loads((folder / MANIFEST).read_text()) | values)


def proved(folder):
    return [file.path for file in check_files(folder, read_manifest(folder))]


def test_a_whole_bundle_is_read_and_proved(folder):
    assert read_manifest(folder).name == "small"
    assert proved(folder) == list(FILES)


def test_fields_of_a_later_writer_are_passed_over(folder):
    change(folder, colour="blue")

    assert read_manifest(folder).name == "small"


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found(folder, name):
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(BundleError, match=rf"{name}: expected sha256 {sha256_of(name)}, got [0-9a-f]{{64}}\. Copy"):
        proved(folder)


def sha256_of(name):
    return hashlib.sha256(FILES[name]).hexdigest()


def test_a_truncated_file_is_found_by_its_size(folder):
    (folder / "model.onnx.data").write_bytes(b"weights")

    with pytest.raises(BundleError, match=r"model\.onnx\.data: expected 7000 bytes, got 7"):
        proved(folder)


def test_a_missing_file_is_named(folder):
    (folder / "model.onnx").unlink()

    with pytest.raises(BundleError, match=r"model\.onnx: listed in bundle\.json but missing"):
        proved(folder)


def test_files_are_proved_one_by_one_so_that_a_caller_can_show_progress(folder):
    (folder / "tokenizer" / "tokenizer.json").unlink()

    checking = check_files(folder, read_manifest(folder))
    assert [next(checking).path, next(checking).path] == ["model.onnx", "model.onnx.data"]
    with pytest.raises(BundleError):
        next(checking)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "tokenizer/../../secret", "..", "link/secret"])
def test_a_path_outside_the_folder_is_refused_before_it_is_touched(folder, name):
    (folder.parent / "secret").write_text("not yours")
    (folder / "link").symlink_to(folder.parent)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(folder, files=[*files, {"path": name, "size_bytes": "9", "sha256": "00"}])

    with pytest.raises(BundleError, match="outside the bundle's folder"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["", ".", "./a", "a/./b", "a//b", "a/", "a\0b", "a\nb", "a" * 256])
def test_a_path_has_one_spelling(folder, name):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(folder, files=[*files, files[0] | {"path": name}])

    with pytest.raises(BundleError, match="expected plain relative paths of at most 255 characters, got"):
        read_manifest(folder)


def test_a_file_listed_many_times_would_be_hashed_as_often(folder):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(folder, files=[*files, files[1]])

    with pytest.raises(BundleError, match=r"expected each file once, got 'model\.onnx\.data' twice"):
        read_manifest(folder)


@pytest.mark.parametrize("sha256", ["", "00", "A" * 64, "x" * 1_000_000])
def test_a_hash_that_is_none_is_refused_and_not_repeated_in_full(folder, sha256):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(folder, files=[files[0] | {"sha256": sha256}, *files[1:]])

    with pytest.raises(BundleError, match="expected a SHA-256 of 64 hexadecimal digits") as refusal:
        read_manifest(folder)
    assert len(str(refusal.value)) < 1000


def test_a_folder_without_a_manifest_is_no_bundle(folder):
    (folder / MANIFEST).unlink()

    with pytest.raises(BundleError, match=r"not a bundle: expected a file bundle\.json, found none\. Make one"):
        read_manifest(folder)


def test_another_format_version_is_refused_with_both_numbers(folder):
    change(folder, format_version=FORMAT_VERSION + 1)

    with pytest.raises(BundleError, match=f"expected format_version {FORMAT_VERSION}, got {FORMAT_VERSION + 1}"):
        read_manifest(folder)


def test_a_huge_manifest_is_refused_by_its_size(folder):
    with (folder / MANIFEST).open("ab") as stream:
        stream.truncate(5 << 20)

    with pytest.raises(BundleError, match="expected at most 4194304 bytes, got 5242880"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"3", b"\xff\xfe", b'{"files": 3}', b'{"format_version": -1}', b"[" * 100_000],
    ids=["empty", "cut short", "a number", "not UTF-8", "another type", "a negative version", "deeply nested"],
)
def test_what_is_no_manifest_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)

    with pytest.raises(BundleError, match="not a bundle manifest"):
        read_manifest(folder)


@pytest.mark.parametrize("missing", FILES)
def test_a_file_that_is_used_but_not_listed_is_refused(folder, missing):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(folder, files=[file for file in files if file["path"] != missing])

    with pytest.raises(BundleError, match=f"names '{missing}' but lists no size and hash"):
        read_manifest(folder)


def test_a_file_is_described_by_name_size_and_hash(folder):
    entry = describe(folder, "model.onnx")

    assert (entry.path, entry.size_bytes, entry.sha256) == ("model.onnx", 5, sha256(folder / "model.onnx"))
    with pytest.raises(BundleError):
        describe(folder, "../bundle/model.onnx")


def test_hashing_in_pieces_is_hashing(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
