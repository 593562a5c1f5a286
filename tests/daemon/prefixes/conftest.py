"""A small cache, a folder of prefixes for it, and a model that leaves in the cache what it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bise_daemon.engine.kv import CacheShape, KvCache
from bise_daemon.engine.session import Logits
from bise_daemon.prefixes.store import PrefixStore

SLOTS, CONTEXT = 3, 64


class MarkingRunner:
    """Puts `token + position` into every entry of the cache, and keeps a list of what it was asked for."""

    def __init__(self, cache: KvCache) -> None:
        self._cache = cache
        self.steps: list[tuple[int, int, int]] = []
        """(slot, start, tokens) of each prefill."""

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        assert not samples, "the head's work is wasted on a prefix"
        self.steps.append((slot, start, len(tokens)))
        marks = np.asarray(tokens) + np.arange(start, start + len(tokens))
        for layer in range(self._cache.shape.num_layers):
            for part in (0, 1):
                self._cache.rows(layer, part, slot, 1)[0, :, start : start + len(tokens)] = marks[:, None]
        return np.empty((0, 1), np.float32)

    def verify(self, slot: int, start: int, tokens: Sequence[int], num_logits: int) -> Logits:
        raise AssertionError("a prefix has no guesses")

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        raise AssertionError("a prefix is not decoded")

    def interrupt(self) -> None:
        raise AssertionError("nobody interrupts a prefix")


@pytest.fixture
def cache() -> KvCache:
    return KvCache(CacheShape(2, 2, 8, np.dtype(np.float32), SLOTS, CONTEXT))


@pytest.fixture
def runner(cache: KvCache) -> MarkingRunner:
    return MarkingRunner(cache)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where prefixes are kept; not there yet."""
    return tmp_path / "state" / "prefixes"


@pytest.fixture
def make_store(folder: Path, cache: KvCache) -> Callable[..., PrefixStore]:
    """A store as the daemon finds it at a start, with another bundle, runtime or cache if wanted."""

    def make(bundle: str = "b" * 64, runtime: str = "1.31.1", shape: CacheShape = cache.shape) -> PrefixStore:
        return PrefixStore(folder, bundle, runtime, shape)

    return make


@pytest.fixture
def store(make_store: Callable[..., PrefixStore]) -> PrefixStore:
    return make_store()
