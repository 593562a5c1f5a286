"""The little HTTP that a streaming caller needs: one POST over a unix socket, server-sent events back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from .server import ServerError

_LONGEST_CHUNK_BYTES = 1 << 20


async def post_events(socket: Path, path: str, body: bytes) -> AsyncGenerator[bytes, None]:
    """The payloads of the events as they come. Leaving the loop hangs up.

    Raises:
        ServerError: another status than 200, or not HTTP/1.1's chunked encoding (RFC 9112, 7.1).
    """
    async with _request(socket, "POST", path, body) as (status, reader):
        if status != 200:
            raise ServerError(f"POST {path}: expected status 200, got {status}: {(await reader.read(2000))!r}")
        rest = b""
        async for chunk in _chunks(reader):
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                if event.startswith(b"data: "):
                    yield event.removeprefix(b"data: ")


async def get_status(socket: Path, path: str) -> int:
    """The status of a GET; 0 when nobody listens."""
    try:
        async with _request(socket, "GET", path, b"") as (status, _):
            return status
    except OSError:
        return 0


@asynccontextmanager
async def _request(
    socket: Path, method: str, path: str, body: bytes
) -> AsyncGenerator[tuple[int, asyncio.StreamReader], None]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        version, status, *_ = answer.split(maxsplit=2)
        if version != b"HTTP/1.1" or not status.isdigit():
            raise ServerError(f"{method} {path}: expected HTTP/1.1, got {answer[:100]!r}")
        yield int(status), reader
    except asyncio.IncompleteReadError as error:
        raise ServerError(f"{method} {path}: the server hung up in the middle of its answer") from error
    finally:
        writer.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line, 16)
        except ValueError:
            raise ServerError(f"expected the size of a chunk, got {line[:100]!r}") from None
        if size > _LONGEST_CHUNK_BYTES:
            raise ServerError(f"expected chunks of at most {_LONGEST_CHUNK_BYTES} bytes, got {size}")
        chunk = await reader.readexactly(size + 2)
        if not size:
            return
        yield chunk[:-2]
