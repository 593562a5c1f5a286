"""A load on its own thread: done, failed, given up by its caller, or stuck."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bise_daemon import loader as loader_module
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.loader import Loader
from bise_daemon.loading import Loading, LoadingStalledError
from bise_daemon.systemd import ServiceManager

CONFIG = DaemonConfig(bundle=Path("/models/m"))


def loader(load: Callable[[Loading], Any]) -> Loader:
    return Loader(lambda _, loading: load(loading), ServiceManager())


async def test_a_load_gives_the_model() -> None:
    model = object()
    loads = loader(lambda _: model)
    assert await loads.load(CONFIG, asyncio.Event()) is model
    assert not loads.left_behind


async def test_what_it_raises_is_raised() -> None:
    def fail(_: Loading) -> None:
        raise OSError("no such bundle")

    with pytest.raises(OSError, match="no such bundle"):
        await loader(fail).load(CONFIG, asyncio.Event())


async def test_a_stop_ends_a_load_at_its_next_progress() -> None:
    stopping, begun = asyncio.Event(), threading.Event()

    def load(loading: Loading) -> None:
        stopped = threading.Event()
        with loading.ended_by(stopped.set):
            begun.set()
            assert stopped.wait(30)
        loading.advance()

    loads = loader(load)
    task = asyncio.create_task(loads.load(CONFIG, stopping))
    await asyncio.to_thread(begun.wait, 30)
    stopping.set()
    assert await task is None
    assert not loads.left_behind


async def test_a_load_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_LEAVING_S", 0.01)
    stopping, over = asyncio.Event(), threading.Event()
    loads = loader(lambda _: over.wait(30))
    stopping.set()
    try:
        assert await loads.load(CONFIG, stopping) is None
        assert loads.left_behind
    finally:
        over.set()


async def test_a_load_without_progress_has_failed_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_LEAVING_S", 0.01)
    over = threading.Event()

    def load(loading: Loading) -> None:
        loading.begin("loading weights", 0.05)
        over.wait(30)

    loads = loader(load)
    try:
        with pytest.raises(LoadingStalledError, match="loading weights: expected progress"):
            await loads.load(CONFIG, asyncio.Event())
        assert loads.left_behind
    finally:
        over.set()
