"""A server's process: started, waited for, ended, and its last words when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from .server import ServerError

# A 24B model loads in 20 s where it was measured.
_START_S = 120.0
_STOP_S = 15.0
_LAST_WORDS = 2000


class ServerProcess:
    """One child process; what it prints goes to a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, ready: Coroutine[Any, Any, object]) -> None:
        """Starts it and waits until `ready` is done.

        Raises:
            ServerError: it ended before, or was not ready in time.
        """
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        waiting = asyncio.ensure_future(ready)
        ended = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({waiting, ended}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        failed = not waiting.done() or waiting.exception() is not None
        for task in (waiting, ended):
            task.cancel()
        if failed:
            await self.stop()
            raise ServerError(f"{self._command[0]}: expected it to serve within {_START_S:g} s; {self._last_words()}")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _last_words(self) -> str:
        said = self._log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:].strip()
        return f"it said: {said}" if said else "it said nothing"
