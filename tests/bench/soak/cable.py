"""A connection that can be cut without either end being told, as when a caller's process is killed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_CHUNK_BYTES = 1 << 16


class Cable:
    """A unix socket that leads to another one; use it as a context.

    Args:
        socket: of this end, made here.
        far: of the daemon.
    """

    def __init__(self, socket: Path, far: Path) -> None:
        self._socket = socket
        self._far = far
        self._ends: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_unix_server(self._join, self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._socket.unlink(missing_ok=True)

    def cut(self) -> None:
        """Drops every connection with what is under way in it, and takes no more."""
        self._server.close()
        for end in self._ends:
            end.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._far)
        self._ends += [writer, far_writer]
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carries bytes until either end is gone; then both are."""
    with suppress(ConnectionError):
        while data := await source.read(_CHUNK_BYTES):
            sink.write(data)
            await sink.drain()
    sink.close()
