"""What is read back from disk is what was written, or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bise_daemon.engine.kv import CacheShape, KvCache
from bise_daemon.prefixes.store import PrefixStore

TOKENS = [5, 17, 200, 31, 9]
MakeStore = Callable[..., PrefixStore]


def fill(cache: KvCache, slot: int, tokens: int) -> bytes:
    random = np.random.default_rng(slot)
    for piece in cache.pieces(slot, tokens):
        piece[:] = random.bytes(len(piece))
    return held(cache, slot, tokens)


def held(cache: KvCache, slot: int, tokens: int = len(TOKENS)) -> bytes:
    return b"".join(cache.pieces(slot, tokens))


@pytest.fixture
def saved(store: PrefixStore, cache: KvCache, folder: Path) -> Path:
    """The one file of a store that has kept slot 0."""
    fill(cache, 0, len(TOKENS))
    store.save(TOKENS, cache.pieces(0, len(TOKENS)))
    (path,) = folder.iterdir()
    return path


def is_ignored(store: PrefixStore, cache: KvCache, caplog: pytest.LogCaptureFixture, why: str) -> bool:
    """Whether loading refuses with a warning that says why."""
    caplog.clear()
    loaded = store.load(TOKENS, cache.pieces(1, len(TOKENS)))
    (record,) = caplog.records
    return not loaded and record.levelname == "WARNING" and why in record.getMessage()


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize("tokens", [1, 5, 64])
def test_entries_come_back_to_any_slot(make_store: MakeStore, dtype: str, tokens: int) -> None:
    cache = KvCache(CacheShape(2, 2, 8, np.dtype(dtype), 3, 64))
    wanted = fill(cache, 0, tokens)
    make_store(shape=cache.shape).save(range(tokens), cache.pieces(0, tokens))
    assert make_store(shape=cache.shape).load(list(range(tokens)), cache.pieces(2, tokens))
    assert held(cache, 2, tokens) == wanted
    assert not np.any(cache.rows(0, 0, 2, 1)[:, :, tokens:])


def test_more_slots_and_context_are_no_other_cache(make_store: MakeStore, cache: KvCache, saved: Path) -> None:
    larger = KvCache(replace(cache.shape, slots=4, context_tokens=100))
    assert make_store(shape=larger.shape).load(TOKENS, larger.pieces(3, len(TOKENS)))
    assert held(larger, 3) == held(cache, 0)


def test_nothing_kept_is_nothing_to_warn_of(
    store: PrefixStore, cache: KvCache, caplog: pytest.LogCaptureFixture
) -> None:
    assert not store.load(TOKENS, cache.pieces(1, len(TOKENS)))
    store.keep_only([])
    assert not caplog.records


@pytest.mark.parametrize("tokens", [TOKENS[:-1], [*TOKENS, 9], [*TOKENS[:-1], 8], [0, *TOKENS[1:]]], ids=str)
def test_other_tokens_are_other_prefixes(store: PrefixStore, cache: KvCache, saved: Path, tokens: list[int]) -> None:
    assert not store.load(tokens, cache.pieces(1, len(tokens)))


def test_other_tokens_under_this_prefixs_name_are_ignored(
    store: PrefixStore, cache: KvCache, saved: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(TOKENS[::-1], cache.pieces(0, len(TOKENS)))
    (other,) = set(folder.iterdir()) - {saved}
    other.rename(saved)
    assert is_ignored(store, cache, caplog, "got another's")


@pytest.mark.parametrize("change", [{"bundle": "c" * 64}, {"runtime": "1.31.2"}], ids=str)
def test_another_bundle_or_runtime_is_ignored_and_its_file_replaced(
    make_store: MakeStore, cache: KvCache, saved: Path, change: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    changed = make_store(**change)
    assert is_ignored(changed, cache, caplog, "expected a prefix of this bundle, onnxruntime and cache, got another's")
    changed.save(TOKENS, cache.pieces(0, len(TOKENS)))
    assert changed.load(TOKENS, cache.pieces(1, len(TOKENS)))
    assert is_ignored(make_store(), cache, caplog, "got another's")


@pytest.mark.parametrize(
    "change",
    [{"num_layers": 1, "kv_heads": 4}, {"kv_heads": 4, "head_dim": 4}, {"dtype": np.dtype(np.int32)}],
    ids=str,
)
def test_another_geometry_of_the_same_size_is_ignored(
    make_store: MakeStore, cache: KvCache, saved: Path, change: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    shape = replace(cache.shape, **change)
    assert shape.bytes_per_token == cache.shape.bytes_per_token
    changed = make_store(shape=shape)
    assert is_ignored(changed, KvCache(shape), caplog, "got another's")


def test_any_flipped_bit_is_noticed(
    store: PrefixStore, cache: KvCache, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = saved.read_bytes()
    for place in [*range(0, len(whole), 97), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        saved.write_bytes(damaged)
        assert is_ignored(store, cache, caplog, "expected"), place
    saved.write_bytes(whole)
    assert store.load(TOKENS, cache.pieces(1, len(TOKENS)))


@pytest.mark.parametrize("length", [0, 1, 14, 200, -32, -1])
def test_a_cut_file_is_ignored(
    store: PrefixStore, cache: KvCache, saved: Path, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    assert is_ignored(store, cache, caplog, f"bytes, got {saved.stat().st_size}")


def test_a_file_too_long_is_not_read(
    store: PrefixStore, cache: KvCache, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(saved, 1 << 40)  # a hole: no disk holds it
    assert is_ignored(store, cache, caplog, f"bytes, got {1 << 40}")


def test_a_file_cut_while_it_is_read_is_ignored(
    store: PrefixStore, cache: KvCache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = range(64)
    fill(cache, 0, len(tokens))
    store.save(tokens, cache.pieces(0, len(tokens)))
    (path,) = folder.iterdir()

    def cutting() -> Iterator[memoryview]:
        os.truncate(path, 10_000)  # beyond what a buffer has read already
        yield from cache.pieces(1, len(tokens))

    assert not store.load(tokens, cutting())
    assert "damaged" in caplog.text


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("replace_file", "why"),
    [
        (_link, os.strerror(errno.ELOOP)),
        (_pipe, "expected a plain file"),
        (_folder, os.strerror(errno.EISDIR)),
        (lambda path: path.chmod(0o620), "only the daemon's user can write"),
        (lambda path: path.chmod(0o602), "only the daemon's user can write"),
    ],
    ids=["link", "pipe", "folder", "group's", "everyone's"],
)
def test_what_is_no_plain_file_of_ours_is_ignored(
    store: PrefixStore,
    cache: KvCache,
    saved: Path,
    replace_file: Callable[[Path], None],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace_file(saved)
    assert is_ignored(store, cache, caplog, why)


def test_another_users_file_is_ignored(
    store: PrefixStore,
    cache: KvCache,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: saved.stat().st_uid + 1)
    assert is_ignored(store, cache, caplog, "only the daemon's user can write")


def test_a_file_is_its_users_alone(saved: Path, folder: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_saving_through_a_link_leaves_its_target_alone(
    store: PrefixStore, cache: KvCache, saved: Path, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    saved.unlink()
    saved.symlink_to(target)
    store.save(TOKENS, cache.pieces(0, len(TOKENS)))
    assert target.read_text() == "mine"
    assert saved.is_file()
    assert not saved.is_symlink()


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync", "replace"])
def test_a_write_that_fails_is_a_warning_and_leaves_the_old_file(
    store: PrefixStore,
    cache: KvCache,
    saved: Path,
    folder: Path,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = saved.read_bytes()
    fill(cache, 1, len(TOKENS))
    monkeypatch.setattr(os, call, refuse)
    store.save(TOKENS, cache.pieces(1, len(TOKENS)))
    assert os.strerror(errno.ENOSPC) in caplog.text
    assert [path.name for path in folder.iterdir()] == [saved.name]
    assert saved.read_bytes() == before


def test_a_folder_that_cannot_be_is_warned_of(
    store: PrefixStore, cache: KvCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    store.keep_only([])
    assert not store.load(TOKENS, cache.pieces(0, len(TOKENS)))
    store.save(TOKENS, cache.pieces(0, len(TOKENS)))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_keep_only_removes_what_is_ours_and_not_wanted(
    store: PrefixStore, cache: KvCache, saved: Path, folder: Path
) -> None:
    store.save([1, 2], cache.pieces(0, 2))
    (other,) = set(folder.iterdir()) - {saved}
    for name in (f"{saved.name}.ab_c1.part", f"{other.name}.x.part", "notes.kv", "prefix-1.kv", f"x{other.name}"):
        (folder / name).touch()
    store.keep_only([TOKENS])
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [saved.name, "notes.kv", "prefix-1.kv", f"x{other.name}"]
    )


def test_what_a_broken_off_write_leaves_has_a_name_that_is_cleaned_up(
    store: PrefixStore, cache: KvCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        killed.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.save(TOKENS, cache.pieces(0, len(TOKENS)))
    (left,) = folder.iterdir()
    assert left.suffix == ".part"
    store.keep_only([TOKENS])
    assert not list(folder.iterdir())


@settings(max_examples=30)
@given(start=st.integers(0, 700), removed=st.integers(0, 700), content=st.binary(max_size=700))
def test_no_content_but_its_own_is_trusted(
    tmp_path_factory: pytest.TempPathFactory, start: int, removed: int, content: bytes
) -> None:
    cache = KvCache(CacheShape(2, 1, 8, np.dtype(np.int8), 1, 8))
    folder = tmp_path_factory.getbasetemp() / "tampered"
    store = PrefixStore(folder, "b", "r", cache.shape)
    path = store._path(TOKENS)
    if not path.exists():
        store.save(TOKENS, cache.pieces(0, len(TOKENS)))
    whole = path.read_bytes()
    changed = whole[:start] + content + whole[start + removed :]
    path.write_bytes(changed)
    trusted = store.load(TOKENS, cache.pieces(0, len(TOKENS)))
    path.write_bytes(whole)
    assert trusted is (changed == whole)
