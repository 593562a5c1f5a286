"""Batches on disk: in order, within bounds, whole, whatever else lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bise_daemon.telemetry import spool as spool_module
from bise_daemon.telemetry.spool import Batch, Spool

DIGEST_BYTES = 32
ROOM_BYTES = 3 * (DIGEST_BYTES + 10)


def batch(number: int) -> Batch:
    return Batch("metrics", f"batch {number:04}".encode())


def drained(spool: Spool) -> list[bytes]:
    found = []
    while (oldest := spool.oldest()) is not None:
        found.append(oldest.body)
        spool.remove_oldest()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "telemetry"


def test_the_oldest_comes_first_and_what_is_not_removed_comes_again(folder: Path) -> None:
    spool = Spool(folder, ROOM_BYTES)
    for number in range(3):
        spool.add(batch(number))
    assert spool.oldest() == spool.oldest() == batch(0)
    assert drained(spool) == [batch(number).body for number in range(3)]
    assert spool.size_bytes == 0
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o077 == 0


def test_beyond_its_room_the_oldest_are_dropped_and_counted(folder: Path) -> None:
    spool = Spool(folder, ROOM_BYTES)
    for number in range(8):
        spool.add(batch(number))
        assert sum(path.stat().st_size for path in folder.iterdir()) <= ROOM_BYTES
    assert spool.dropped == 5
    assert drained(spool) == [batch(number).body for number in (5, 6, 7)]


def test_one_that_is_too_large_alone_drops_no_other(folder: Path) -> None:
    spool = Spool(folder, ROOM_BYTES)
    spool.add(batch(0))
    spool.add(Batch("metrics", b"x" * ROOM_BYTES))
    assert spool.dropped == 1
    assert drained(spool) == [batch(0).body]


def test_a_new_start_goes_on_where_the_last_ended(folder: Path) -> None:
    before = Spool(folder, ROOM_BYTES)
    before.add(batch(0))
    before.add(Batch("traces", b"\n\n"))
    after = Spool(folder, ROOM_BYTES)
    after.add(batch(2))
    assert after.oldest() == batch(0)
    after.remove_oldest()
    assert after.oldest() == Batch("traces", b"\n\n")
    assert drained(Spool(folder, ROOM_BYTES)) == [b"\n\n", batch(2).body]


def test_a_start_with_less_room_drops_the_oldest(folder: Path) -> None:
    before = Spool(folder, ROOM_BYTES)
    for number in range(3):
        before.add(batch(number))
    after = Spool(folder, ROOM_BYTES // 3)
    assert (after.dropped, drained(after)) == (2, [batch(2).body])


@pytest.mark.parametrize("damage", ["changed", "cut", "empty", "gone", "link", "folder", "pipe", "of others"])
def test_what_is_damaged_is_skipped_with_a_warning(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(folder, ROOM_BYTES)
    spool.add(batch(0))
    spool.add(batch(1))
    path = min(folder.iterdir())
    content = path.read_bytes()
    secret = folder.parent / "secret"
    secret.write_bytes(content)
    if damage in ("gone", "link", "folder", "pipe"):
        path.unlink()
    match damage:
        case "changed":
            path.write_bytes(content[:-1] + b"!")
        case "cut":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "link":
            path.symlink_to(secret)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "of others":
            path.chmod(0o666)
    for each in (spool, Spool(folder, ROOM_BYTES)):
        assert (each.oldest() or batch(9)).body == batch(1).body
    assert spool.dropped == 1
    assert "telemetry that waited on disk is lost" in caplog.text
    assert secret.read_bytes() == content


def test_what_others_put_there_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("notes.txt", "1.metrics", "0000000000000001.METRICS", "00000000000000011.metrics"):
        (folder / name).write_text("theirs")
    spool = Spool(folder, 10)
    assert spool.oldest() is None
    assert len(list(folder.iterdir())) == 4


def test_a_write_that_a_power_cut_ended_is_cleared_away(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "0000000000000001.metrics.ab12.part").write_bytes(b"half")
    assert Spool(folder, ROOM_BYTES).oldest() is None
    assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_loses_only_what_comes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder, ROOM_BYTES)
    spool.add(batch(0))

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module, "replacing", full)
    with pytest.raises(OSError, match="No space left"):
        spool.add(batch(1))
    assert drained(spool) == [batch(0).body]


def test_without_a_folder_nothing_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "telemetry", ROOM_BYTES)
    assert "can't wait on disk" in caplog.text
    assert spool.oldest() is None
    with pytest.raises(OSError, match="file"):
        spool.add(batch(0))
