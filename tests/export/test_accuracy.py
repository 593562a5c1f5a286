"""An accuracy report goes into a published bundle's manifest, and nothing else of it changes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bise_export.accuracy import store
from bise_export.errors import ExportError
from bise_proto.bundle import MANIFEST, read_manifest
from bise_proto.trust.signature import SIGNATURE
from bise_proto.v1 import bundle_pb2

ACCURACY = bundle_pb2.Accuracy(reference="numpy float32", positions=716, mean_kl=0.0123, p99_kl=float("inf"))


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def manifest(folder: Path) -> bytes:
    return (folder / MANIFEST).read_bytes()


def test_the_report_is_stored_and_all_else_stays(folder):
    before = json.loads(manifest(folder))
    mode = (folder / MANIFEST).stat().st_mode

    store(folder, manifest(folder), ACCURACY)

    assert read_manifest(folder).accuracy == ACCURACY
    after = json.loads(manifest(folder))
    del after["accuracy"]
    assert after == before
    assert (folder / MANIFEST).stat().st_mode == mode
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_another_report_takes_its_place(folder):
    store(folder, manifest(folder), ACCURACY)
    worse = bundle_pb2.Accuracy(reference="transformers float32", mean_kl=0.5)
    store(folder, manifest(folder), worse)
    assert read_manifest(folder).accuracy == worse


def test_the_same_report_changes_no_byte(folder):
    """What a device measured is bound to the manifest."""
    store(folder, manifest(folder), ACCURACY)
    reformatted = json.dumps(json.loads(manifest(folder))).encode()
    (folder / MANIFEST).write_bytes(reformatted)

    store(folder, reformatted, ACCURACY)

    assert manifest(folder) == reformatted


def test_what_a_later_bise_wrote_is_kept(folder):
    values = json.loads(manifest(folder)) | {"of_tomorrow": {"a": 1}}
    (folder / MANIFEST).write_text(json.dumps(values))

    store(folder, manifest(folder), ACCURACY)

    assert json.loads(manifest(folder))["of_tomorrow"] == {"a": 1}


def test_a_signed_bundle_is_not_touched(folder):
    (folder / SIGNATURE).write_text("by somebody")
    before = manifest(folder)

    with pytest.raises(ExportError, match=r"is signed, and its manifest with it.*remove bundle.sig, verify again, and"):
        store(folder, before, ACCURACY)

    assert manifest(folder) == before


def test_a_bundle_that_was_replaced_meanwhile_is_not_touched(folder):
    with pytest.raises(ExportError, match=r"expected the manifest that was verified, got another: verify again"):
        store(folder, b"{}", ACCURACY)


def test_a_bundle_that_cant_be_written_says_so_and_stays(folder, monkeypatch):
    before = manifest(folder)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match=r"can't be replaced: No space left on device.*or give --no-store"):
        store(folder, before, ACCURACY)

    assert manifest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
