"""An event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

from bise.errors import Cancelled

T = TypeVar("T")

# Closing a channel takes milliseconds; a loop that hangs must not hang its process's exit.
_JOIN_TIMEOUT_S = 5.0


class LoopThread:
    """Runs coroutines for any number of threads, until closed. `farewell` runs last, inside the loop."""

    def __init__(self, farewell: Callable[[], Awaitable[None]]) -> None:
        self._farewell = farewell
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        started = threading.Event()
        # A daemon thread: a client that nobody closed does not keep its process alive.
        self._thread = threading.Thread(target=self._serve, args=(started,), name="bise-client", daemon=True)
        self._thread.start()
        started.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, or its exception; an interrupt here cancels it there.

        Raises:
            RuntimeError: the loop is closed, or belongs to the process this one was forked from.
            Cancelled: the loop was closed while the coroutine ran.
        """
        with self._lock:  # so that close() comes before the submission or after it, never inside
            if problem := self._problem():
                coroutine.close()
                raise RuntimeError(problem)
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise Cancelled("the client was closed while the call ran") from None
        except BaseException:
            future.cancel()
            raise

    def post(self, callback: Callable[[], object]) -> None:
        """Has the loop call `callback` soon, without waiting; does nothing once the loop is closed.

        Safe where waiting is not: the garbage collector may call it on the loop's own thread.
        """
        if self._pid == os.getpid():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Ends the loop, cancelling what runs; harmless when repeated and in a forked process."""
        if self._pid != os.getpid():
            return
        self._closed = True
        self.post(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_TIMEOUT_S)

    def _problem(self) -> str:
        if self._pid != os.getpid():
            return "this client was made before the process forked: make a client in each process"
        return "the client is closed: make a new one" if self._closed else ""

    def _serve(self, started: threading.Event) -> None:
        async def live() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            started.set()
            await self._stop.wait()
            await self._farewell()

        asyncio.run(live())
