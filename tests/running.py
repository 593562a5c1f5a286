"""A whole daemon inside a test: the real server on its own thread, on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bise_daemon.config.load import config_from_flags
from bise_daemon.models.model import load_model
from bise_daemon.server import Server

_PATIENCE_S = 60


class RunningDaemon:
    """A server at work.

    Attributes:
        address: where it listens, as the SDK wants it.
        ended: done when `Server.run` is over, with what it raised.
    """

    def __init__(self, address: str, ended: Future[None], server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.ended = ended
        self.server = server
        self._loop = loop

    def stop(self) -> None:
        """Begins the drain, as SIGTERM does."""
        self._loop.call_soon_threadsafe(self.server.stop)


@contextmanager
def running(
    bundle: Path, folder: Path, load: Callable[..., Any] = load_model, **settings: Any
) -> Iterator[RunningDaemon]:
    """Runs a daemon on a socket in `folder`; it is stopped, and must end well, when the block is left."""
    config = config_from_flags(
        {"bundle": str(bundle), "listen": f"unix://{folder}/bise.sock", "threads": 2, **settings}
    )
    started: Future[tuple[str, Server, asyncio.AbstractEventLoop]] = Future()
    ended: Future[None] = Future()

    async def run() -> None:
        server = Server(config, load)
        server.listening.add_done_callback(
            lambda listening: started.set_result((str(listening.result()), server, asyncio.get_running_loop()))
        )
        await server.run()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - the test hears of it
            ended.set_exception(error)
            if not started.done():
                started.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=main, name="daemon-under-test", daemon=True)
    thread.start()
    address, server, loop = started.result(_PATIENCE_S)
    daemon = RunningDaemon(address, ended, server, loop)
    try:
        yield daemon
    finally:
        if not ended.done():
            daemon.stop()
        thread.join(_PATIENCE_S)
    ended.result(0)
