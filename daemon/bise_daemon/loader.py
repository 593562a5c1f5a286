"""Loads the model on a thread of its own, for as long as that makes progress and somebody waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import Any

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.loading import Loading, LoadingStoppedError
from bise_daemon.models.model import Model
from bise_daemon.systemd import ServiceManager

logger = logging.getLogger(__name__)

Load = Callable[[DaemonConfig, Loading], Model]

# The manager gives up a little later than the daemon, which can say why.
_SLACK_S = 10.0
# What reads, packs or computes in pieces ends within one; a call into native code, when it likes.
_LEAVING_S = 2.0


class Loader:
    """One load.

    Args:
        load: turns the configuration into a model.
        manager: hears how it gets on.

    Attributes:
        left_behind: its thread could not be ended. The process must then end without the interpreter's clean-up, which
            would take away what that thread uses.
    """

    def __init__(self, load: Load, manager: ServiceManager) -> None:
        self._load = load
        self._manager = manager
        self._part = ""
        self.left_behind = False

    async def load(self, config: DaemonConfig, stopping: asyncio.Event) -> Model | None:
        """The model; None when `stopping` came first.

        Raises:
            LoadingStalledError: there was no progress for too long.
            BaseException: whatever `load` raises.
        """
        loading = Loading(partial(self._tell, config.bundle.name))
        thread: Future[Model] = _run(partial(self._load, config, loading))
        ended: asyncio.Future[Any] = asyncio.wrap_future(thread)
        patience: asyncio.Future[Any] = asyncio.ensure_future(_stall(loading))
        stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([ended, patience, stop], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                loading.stop()
                await asyncio.wait([ended], timeout=_LEAVING_S)
            if patience.done() and not stop.done():
                raise loading.stall
            return thread.result() if ended.done() else None
        except LoadingStoppedError:
            return None
        finally:
            self.left_behind = not thread.done()
            for future in (ended, patience, stop):
                future.cancel()

    def _tell(self, name: str, part: str, patience_s: float) -> None:
        self._manager.loading(f"Loading {name}: {part}", patience_s + _SLACK_S)
        if (part := part.partition(":")[0]) != self._part:
            self._part = part
            logger.info("loading %s: %s", name, part)


async def _stall(loading: Loading) -> None:
    """Returns when there should have been progress."""
    while (left_s := loading.left_s) > 0:
        await asyncio.sleep(left_s)


def _run(work: Callable[[], Model]) -> Future[Model]:
    """On a thread that keeps no process from ending."""
    done: Future[Model] = Future()
    done.set_running_or_notify_cancel()  # who waits may give up; the thread still has somewhere to put what it made

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            done.set_exception(error)

    Thread(target=run, name="bise-loading", daemon=True).start()
    return done
