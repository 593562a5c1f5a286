from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bise_daemon.cost.curve import Curve
from bise_daemon.cost.record import cpu_identity, load, record_key, save

DEVICE = {"runtime": "onnxruntime 1.31.1", "cpu": "a cpu; cpus=2", "threads": 2, "slots": 8, "context_tokens": 4096}
KEY = record_key(b"{}", **DEVICE)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    """Edits a record and makes its hash right again."""
    record = json.loads(path.read_bytes().splitlines()[1])
    change(record)
    body = json.dumps(record).encode()
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n")


def test_what_is_saved_is_loaded(tmp_path: Path, curve: Curve) -> None:
    folder = tmp_path / "state"
    save(folder, KEY, curve)
    assert load(folder, KEY) == curve
    assert only_file(folder).stat().st_size < 4096


def test_saving_again_replaces(tmp_path: Path, curve: Curve) -> None:
    save(tmp_path, KEY, curve)
    slower = Curve(curve.prefill, curve.prefill_entry, curve.decode, 0.5, 0.5, 0.5)
    save(tmp_path, KEY, slower)
    assert load(tmp_path, KEY) == slower
    assert only_file(tmp_path)


def test_nothing_saved_is_nothing_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(tmp_path / "missing", KEY) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runtime", "onnxruntime 1.32.0"),
        ("cpu", "another; cpus=2"),
        ("threads", 1),
        ("slots", 4),
        ("context_tokens", 8192),
    ],
)
def test_it_holds_for_this_device_only(name: str, value: object) -> None:
    assert record_key(b"{}", **{**DEVICE, name: value}) != KEY
    assert record_key(b"{ }", **DEVICE) != KEY
    assert record_key(b"{}", **DEVICE) == KEY


def test_another_devices_record_is_not_trusted(tmp_path: Path, curve: Curve, caplog: pytest.LogCaptureFixture) -> None:
    other = record_key(b"{}", **{**DEVICE, "threads": 7})
    save(tmp_path / "other", other, curve)
    save(tmp_path / "mine", KEY, curve)
    only_file(tmp_path / "other").replace(only_file(tmp_path / "mine"))
    assert load(tmp_path / "mine", KEY) is None
    assert "expected a calibration for" in caplog.text


def test_an_edited_file_is_not_trusted(tmp_path: Path, curve: Curve, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, KEY, curve)
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"92.0", b"12.0"))
    assert load(tmp_path, KEY) is None
    assert "SHA-256" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"\xff" * 100, b"a\nb\n", b"x" * (65 << 10)])
def test_a_damaged_file_is_not_trusted(
    tmp_path: Path, curve: Curve, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    save(tmp_path, KEY, curve)
    only_file(tmp_path).write_bytes(content)
    assert load(tmp_path, KEY) is None
    assert len(caplog.records) == 1


def test_every_cut_is_noticed(tmp_path: Path, curve: Curve) -> None:
    save(tmp_path, KEY, curve)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:size])
        assert load(tmp_path, KEY) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["curve"].update(decode_entry_ms=-1),
        lambda record: record["curve"].update(decode_entry_ms="NaN"),
        lambda record: record["curve"]["prefill"].update(times_ms=[5, 4, 3, 2, 1]),
        lambda record: record["curve"]["decode"].update(sizes=[1, 2, 4, 1 << 40]),
        lambda record: record["curve"]["decode"].update(sizes=list(range(1, 1000)), times_ms=[1] * 999),
        lambda record: record["curve"].pop("decode"),
        lambda record: record.update(curve=None),
    ],
)
def test_a_record_with_the_right_hash_still_has_bounds(
    tmp_path: Path, curve: Curve, caplog: pytest.LogCaptureFixture, change: Callable[[dict], None]
) -> None:
    save(tmp_path, KEY, curve)
    rewrite(only_file(tmp_path), lambda record: None)
    assert load(tmp_path, KEY) == curve
    rewrite(only_file(tmp_path), change)
    assert load(tmp_path, KEY) is None
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()


def test_a_pipe_in_its_place_does_not_hang(tmp_path: Path, curve: Curve) -> None:
    save(tmp_path, KEY, curve)
    path = only_file(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert load(tmp_path, KEY) is None


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, curve: Curve, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    save(tmp_path / "state", KEY, curve)
    assert "not saved" in caplog.text


def test_a_failed_rename_leaves_nothing(tmp_path: Path, curve: Curve, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, KEY, curve)
    path = only_file(tmp_path)
    path.unlink()
    path.mkdir()
    save(tmp_path, KEY, curve)
    assert "not saved" in caplog.text
    assert only_file(tmp_path) == path


def test_the_processor_is_told_by_what_does_not_change(tmp_path: Path) -> None:
    core = "processor\t: {}\nmodel name\t: AMD EPYC\nstepping\t: 1\ncpu MHz\t: {}\n\n"
    (tmp_path / "a").write_text(core.format(0, 2400.1) + core.format(1, 3100.7))
    (tmp_path / "b").write_text(core.format(0, 1200.0) + core.format(1, 1200.0))
    (tmp_path / "c").write_text("processor\t: 0\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU part\t: 0xd05\n")
    assert cpu_identity(tmp_path / "a") == cpu_identity(tmp_path / "b")
    assert cpu_identity(tmp_path / "a").startswith("model name=AMD EPYC; stepping=1; cpus=")
    assert cpu_identity(tmp_path / "c").startswith("CPU part=0xd05; CPU part=0xd0b; cpus=")
    assert cpu_identity(tmp_path / "missing").startswith("cpus=")
