"""A whole daemon inside a test: the real server on its own thread, on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.load import config_from_flags
from bise_daemon.engine.kv import KvCache
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Reading
from bise_daemon.models.model import Model, load_model
from bise_daemon.server import Server

_PATIENCE_S = 60


class RunningDaemon:
    """A server at work.

    Attributes:
        address: where it listens, as the SDK wants it.
        http: where the HTTP door listens, where there is one.
        ended: done when `Server.run` is over, with what it raised.
    """

    def __init__(self, address: str, ended: Future[None], server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.ended = ended
        self.server = server
        self.http = None if server.http_address is None else str(server.http_address).replace("tcp:", "http:")
        self._loop = loop

    def stop(self) -> None:
        """Begins the drain, as SIGTERM does."""
        self._loop.call_soon_threadsafe(self.server.stop)


class SimulatedMemory:
    """A machine with as much memory as a test says, less what the daemon's cache holds of it.

    Attributes:
        free_bytes: what there would be with an empty cache.
    """

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self._cache: KvCache | None = None

    def load(self, config: DaemonConfig) -> Model:
        """Loads a model, by the real machine's memory, and counts its cache from then on."""
        model = load_model(config)
        self._cache = model.cache
        return model

    @property
    def held_bytes(self) -> int:
        """What the cache holds."""
        return 0 if self._cache is None else self._cache.committed_bytes()

    def read(self) -> Reading:
        """What the machine says of itself."""
        return Reading(max(0, self.free_bytes - self.held_bytes), self.free_bytes, 0, 0)


@contextmanager
def running(
    bundle: Path,
    folder: Path,
    load: Callable[..., Any] = load_model,
    read: Callable[[], Reading] = read_memory,
    **settings: Any,
) -> Iterator[RunningDaemon]:
    """Runs a daemon on a socket in `folder`; it is stopped, and must end well, when the block is left.

    Args:
        load: makes the model.
        read: tells the governor of memory.
        settings: the configuration's.
    """
    config = config_from_flags(
        {"bundle": str(bundle), "listen": f"unix://{folder}/bise.sock", "threads": 2, **settings}
    )
    started: Future[tuple[str, Server, asyncio.AbstractEventLoop]] = Future()
    ended: Future[None] = Future()

    async def run() -> None:
        server = Server(config, load, read)
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
