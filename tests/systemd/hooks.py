"""`bise serve` with a fault in it: `python hooks.py FAULT serve …`. Nothing like this is in the daemon itself."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bise.cli import main
from bise_daemon import loader, server
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.engine.loop import Engine
from bise_daemon.loading import Loading
from bise_daemon.models.model import Model, load_model

FREEZE = Path("/run/bise/freeze")
_STEP = Engine._step


def freeze() -> None:
    """The engine's thread stops in the next step after the file FREEZE is there, and takes it away."""

    def step(engine: Engine) -> None:
        if FREEZE.exists():
            FREEZE.unlink()
            threading.Event().wait()
        _STEP(engine)

    Engine._step = step  # type: ignore[method-assign]


def stall() -> None:
    """A load makes progress three times in three seconds, and then none."""
    _load_with(threading.Event().wait)


def seize() -> None:
    """The same, and what hangs is native code that lets no other thread run: the daemon can't even say so."""
    loader._SLACK_S = 1.0
    _load_with(partial(ctypes.PyDLL(None).sleep, 3600))


def slow() -> None:
    """A load takes three seconds, with progress on the way."""
    _load_with(lambda: None)


def _load_with(hang: Callable[[], object]) -> None:
    def load(config: DaemonConfig, loading: Loading) -> Model:
        loading.begin("reading from a slow disk", 3)
        for _ in range(3):
            threading.Event().wait(1)
            loading.advance()
        hang()
        return load_model(config, loading)

    server.Server = partial(server.Server, load=load)  # type: ignore[misc, assignment]


if __name__ == "__main__":
    fault = sys.argv.pop(1)
    {each.__name__: each for each in (freeze, stall, seize, slow)}[fault]()
    main()
