"""The process that packs, played by a script: followed, failed, stuck, and given up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bise_daemon.loading import Loading, LoadingStoppedError
from bise_daemon.specialise import packing
from bise_daemon.specialise.packing import pack_apart
from bise_daemon.state import UnfitError


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def loading(told: list[str]) -> Loading:
    return Loading(lambda part, _: told.append(part), iter(range(1000)).__next__)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing.sys, "executable", str(tmp_path / "python"))


def script(folder: Path, text: str) -> None:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def pack(folder: Path, loading: Loading, patience_s: float = 30.0) -> None:
    pack_apart(folder / "model.onnx", folder, loading, patience_s)


@pytest.mark.usefixtures("play")
def test_each_product_is_progress(tmp_path: Path, loading: Loading, told: list[str]) -> None:
    script(tmp_path, "echo 0 of 2; echo a warning; echo 1 of 2")
    pack(tmp_path, loading)
    assert told[0] == "packing weights for this device, once"
    assert told[-1] == "packing weights for this device, once: 1 of 2 products"


@pytest.mark.usefixtures("play")
@pytest.mark.parametrize(
    ("text", "reason"),
    [("echo 0 of 2; echo GraphError: no such >&2; exit 1", "GraphError: no such"), ("exit 7", "exit code 7")],
)
def test_what_it_says_last_is_why_it_failed(tmp_path: Path, loading: Loading, text: str, reason: str) -> None:
    script(tmp_path, text)
    with pytest.raises(UnfitError, match=reason):
        pack(tmp_path, loading)


@pytest.mark.usefixtures("play")
def test_one_that_gets_nowhere_is_ended(tmp_path: Path, loading: Loading) -> None:
    script(tmp_path, "exec sleep 1000")
    with pytest.raises(UnfitError, match="expected another product packed within 0 s, got none"):
        pack(tmp_path, loading, 0.05)


@pytest.mark.usefixtures("play")
def test_one_that_nobody_waits_for_is_ended_at_once(tmp_path: Path) -> None:
    begun = threading.Event()
    loading = Loading(lambda part, _: begun.set() if "of" in part else None, iter(range(1000)).__next__)
    script(tmp_path, "echo 0 of 2; exec sleep 1000")
    stopper = threading.Thread(target=lambda: (begun.wait(30), loading.stop()))
    stopper.start()
    with pytest.raises(LoadingStoppedError):
        pack(tmp_path, loading)
    stopper.join()
