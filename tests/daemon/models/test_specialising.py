"""A bundle specialised at its first start: the same answers, from files that are proved at each later one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bise_daemon.config.load import config_from_flags
from bise_daemon.models.model import Model, load_model
from bise_daemon.specialise import store as store_module
from bise_daemon.specialise.writer import DATA_FILE, MODEL_FILE
from bise_export.pipeline import ExportOptions, export
from bise_proto.bundle import BundleError
from conftest import Quiet
from golden import checkpoints, tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, quiet: Quiet) -> Path:
    """A bundle as it is exported when nothing is chosen, and its state after a first start that specialised it."""
    folder = tmp_path_factory.mktemp("started")
    source = checkpoints.write_huggingface(folder / "checkpoint", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    export(source, folder / "tiny", ExportOptions(verify=False), quiet)
    assert load(folder / "tiny").specialised
    return folder


@pytest.fixture
def bundle(started: Path, tmp_path: Path) -> Path:
    """One's own, with its state; what was copied has other inodes and times."""
    shutil.copytree(started, tmp_path / "own", copy_function=shutil.copy2)
    return tmp_path / "own" / "tiny"


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is specialised anew."""

    def run(*_arguments: object) -> None:
        raise subprocess.SubprocessError("not now")

    monkeypatch.setattr(store_module, "_run", run)


def load(folder: Path, **settings: Any) -> Model:
    asked = {"bundle": str(folder), "listen": f"unix://{folder}.sock", "threads": 1, "slots": 2, "specialise": "always"}
    return load_model(config_from_flags(asked | settings))


def files(bundle: Path) -> Path:
    """The folder of the specialised files."""
    (folder,) = bundle.with_name(f"{bundle.name}.state").joinpath("specialised").iterdir()
    return folder


def logits(model: Model) -> bytes:
    """Of a prompt, of steps with a row and with two, and of guesses."""
    session = model.session
    found = [session.prefill(0, 0, range(3, 12), samples=True).copy()]
    session.prefill(1, 0, range(20, 31), samples=False)
    found += [session.decode(0, [5], [9]).copy(), session.decode(0, [6, 7], [10, 11]).copy()]
    found.append(session.verify(0, 11, [1, 2, 3], 3).copy())
    return b"".join(np.ascontiguousarray(each).tobytes() for each in found)


def flip(path: Path) -> None:
    """Changes the last byte, and no time that a person sees."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rerecord(folder: Path) -> None:
    """Notes the files as they are now, as if they had been written so."""
    store = store_module.Store(Path("unused"), b"", "", ())
    store._key = store_module._RECORDS.validate_json(store_module.unsealed((folder / "record.json").read_bytes())).key
    store._record(folder)


def test_the_specialised_graph_computes_the_same_to_the_last_bit(started: Path) -> None:
    plain, specialised = load(started / "tiny", specialise="never"), load(started / "tiny")
    assert (plain.specialised, specialised.specialised) == (False, True)
    assert logits(plain) == logits(specialised)


def test_a_later_start_reads_neither_the_bundles_weights_nor_specialises_again(
    bundle: Path, never: None, caplog: pytest.LogCaptureFixture
) -> None:
    flip(bundle / "model.onnx.data")  # which a graph of its own would be refused for
    assert load(bundle).specialised
    assert "not specialised" not in caplog.text
    with pytest.raises(BundleError, match="expected sha256"):
        load(bundle, specialise="never")


def test_weights_of_another_size_are_refused_all_the_same(bundle: Path) -> None:
    with (bundle / "model.onnx.data").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="bytes, got"):
        load(bundle)


def damage(name: str) -> Callable[[Path], None]:
    return lambda folder: flip(folder / name)


def shorten(folder: Path) -> None:
    with (folder / DATA_FILE).open("r+b") as file:
        file.truncate(8192)


def give_away(folder: Path) -> None:
    (folder / DATA_FILE).chmod(0o666)


def open_folder(folder: Path) -> None:
    folder.chmod(0o777)


def lose(folder: Path) -> None:
    (folder / DATA_FILE).unlink()


def link(folder: Path) -> None:
    (folder / DATA_FILE).rename(folder / "elsewhere")
    (folder / DATA_FILE).symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [damage(DATA_FILE), damage(MODEL_FILE), damage("record.json"), shorten, give_away, open_folder, lose, link],
    ids=["data", "graph", "record", "shortened", "others", "folder", "lost", "link"],
)
def test_files_that_are_not_as_they_were_written_are_not_used(
    bundle: Path, never: None, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(files(bundle))
    assert not load(bundle).specialised
    assert "so its weights are repacked: not now" in caplog.text


def test_they_are_made_again(bundle: Path) -> None:
    shorten(files(bundle))
    assert load(bundle).specialised
    assert [path.name for path in files(bundle).parent.iterdir()] == [files(bundle).name]


def test_another_version_replaces_them(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(bundle).name
    monkeypatch.setattr("bise_daemon.models.specialising.runtime_version", lambda: "9.9.9")
    assert load(bundle).specialised
    assert files(bundle).name != before


def test_what_the_disk_has_no_room_for_is_not_written(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(files(bundle))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))  # type: ignore[attr-defined]
    assert not load(bundle).specialised
    assert "GB of free disk, got 0.0 GB" in caplog.text


def test_a_graph_without_quantized_products_is_served_as_it_is(
    tmp_path: Path, quiet: Quiet, caplog: pytest.LogCaptureFixture
) -> None:
    source = checkpoints.write_huggingface(tmp_path / "checkpoint", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    export(source, tmp_path / "tiny", ExportOptions(precision="fp32", verify=False), quiet)
    assert not load(tmp_path / "tiny").specialised
    assert "expected products of quantized weights, found none" in caplog.text


def test_a_specialised_graph_that_does_not_load_is_removed_and_the_bundle_proved_after_all(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = files(bundle)
    (folder / MODEL_FILE).write_bytes(b"no graph")
    rerecord(folder)
    flip(bundle / "model.onnx.data")
    with pytest.raises(BundleError, match="expected sha256"):
        load(bundle)
    assert "removed, and the weights are repacked" in caplog.text
    assert not folder.exists()


def test_a_matrix_that_is_not_found_by_its_hash_is_noticed(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = files(bundle)
    model = onnx.load(folder / MODEL_FILE, load_external_data=False)
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    packed = next(entry for entry in entries if entry.key == "prepacked_0")
    name, _, blob = packed.value.partition("|")
    packed.value = f"{name[:-1]}|{blob}"
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    rerecord(folder)
    assert not load(bundle).specialised
    assert "expected the logits of its first start" in caplog.text


def test_verify_full_finds_what_time_and_size_do_not_tell(
    bundle: Path, never: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(files(bundle) / DATA_FILE)
    monkeypatch.setattr(store_module, "_state", lambda _: (0, 0, 0, 0, 0))  # as if the disk had changed it by itself
    folder = files(bundle)
    record = store_module._RECORDS.validate_json(store_module.unsealed((folder / "record.json").read_bytes()))
    same = {name: store_module._File(each.sha256, (0, 0, 0, 0, 0)) for name, each in record.files.items()}
    body = store_module._RECORDS.dump_json(store_module._Record(record.key, same))
    (folder / "record.json").write_bytes(store_module.sealed(body))
    (folder / "record.json").chmod(0o600)
    assert not load(bundle, verify="full").specialised


def test_small_bundles_are_not_specialised_unasked(started: Path, tmp_path: Path) -> None:
    assert not load(started / "tiny", specialise="auto", state_dir=str(tmp_path / "state")).specialised
    assert not (tmp_path / "state" / "specialised").exists()
