"""The caller of llama-server, against a server of a few lines that speaks as it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from bench.latency.llama_server import LlamaServer, Settings
from bench.latency.process import ServerProcess
from bench.latency.server import ServerError, Tokens
from bench.latency.sse import get_status, post_events
from bench.latency.trace import Call

OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(tokens_predicted: int) -> bytes:
    return b"data: " + json.dumps({"content": "a", "tokens_predicted": tokens_predicted}).encode() + b"\n\n"


class ScriptedSocket:
    """Reads one request, writes some bytes, and hangs up or stays silent."""

    def __init__(self, answer: Sequence[bytes], *, silent: bool = False) -> None:
        self._answer = answer
        self._silent = silent
        self.bodies: list[bytes] = []
        self.hung_up = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        self.bodies.append(await reader.readexactly(length))
        for part in self._answer:
            writer.write(part)
            await writer.drain()
        if self._silent:
            await reader.read()
            self.hung_up.set()
        writer.close()


@asynccontextmanager
async def listening(path: Path, script: ScriptedSocket) -> AsyncGenerator[None, None]:
    server = await asyncio.start_unix_server(script.serve, path)
    async with server:
        yield


@pytest.fixture
async def llama(tmp_path: Path) -> AsyncGenerator[LlamaServer, None]:
    """One that is called, but not started: the tests listen in its place."""
    server = LlamaServer("llama-server", Path("llama-server"), Settings(tmp_path / "m.gguf", 2, 300, 2))
    yield server
    await server.stop()


async def events(path: Path) -> list[bytes]:
    return [payload async for payload in post_events(path, "/completion", b"{}")]


async def test_events_are_read_however_they_are_cut(tmp_path: Path) -> None:
    stream = b"data: one\n\ndata: two\n\n: a comment\n\n"
    cut = [OK + chunk(stream[:13]), chunk(stream[13:20])[:4], chunk(stream[13:20])[4:], chunk(stream[20:]), END]
    async with listening(tmp_path / "s", ScriptedSocket(cut)):
        assert await events(tmp_path / "s") == [b"one", b"two"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\nloading", "expected status 200, got 503: b'loading'"),
        (b"SSH-2.0-x y\r\n\r\n", "expected HTTP/1.1"),
        (OK + b"what?\r\n", "expected the size of a chunk"),
        (OK + b"fffffff\r\n", "expected chunks of at most"),
        (OK + b"5\r\nab", "hung up in the middle"),
        (b"HTTP/1.1 2", "hung up in the middle"),
    ],
)
async def test_what_is_not_understood_is_an_error(tmp_path: Path, answer: bytes, message: str) -> None:
    async with listening(tmp_path / "s", ScriptedSocket([answer])):
        with pytest.raises(ServerError, match=message):
            await events(tmp_path / "s")


async def test_health_is_a_status_or_nobody(tmp_path: Path) -> None:
    assert await get_status(tmp_path / "s", "/health") == 0
    async with listening(tmp_path / "s", ScriptedSocket([b"HTTP/1.1 503 Busy\r\n\r\n"])):
        assert await get_status(tmp_path / "s", "/health") == 503


async def test_tokens_are_counted_once(llama: LlamaServer, call: Callable[..., Call]) -> None:
    script = ScriptedSocket([OK, chunk(event(1)), chunk(event(3)), chunk(event(4)), chunk(event(4)), END])
    async with listening(llama.socket, script):
        got = [one async for one in llama.send(call(total_ms=60e3))]
    assert got == [Tokens(1), Tokens(2), Tokens(1)]
    body = json.loads(script.bodies[0])
    assert (body["prompt"], body["n_predict"], body["ignore_eos"], body["temperature"]) == ([1, 2, 3], 4, True, 0)


async def test_the_caller_hangs_up_at_its_deadline(llama: LlamaServer, call: Callable[..., Call]) -> None:
    script = ScriptedSocket([OK, chunk(event(1))], silent=True)
    async with listening(llama.socket, script):
        async with asyncio.timeout(20):
            async with aclosing(llama.send(call(total_ms=40))) as answer:
                assert [one async for one in answer] == [Tokens(1)]
            await script.hung_up.wait()


async def test_an_event_without_a_count_is_an_error(llama: LlamaServer, call: Callable[..., Call]) -> None:
    async with listening(llama.socket, ScriptedSocket([OK, chunk(b'data: {"error": 1}\n\n'), END])):
        with pytest.raises(ServerError, match="expected an event with tokens_predicted"):
            _ = [one async for one in llama.send(call(total_ms=60e3))]


async def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    process = ServerProcess(["/bin/sh", "-c", "echo no such model; exit 3"], tmp_path / "log")
    with pytest.raises(ServerError, match="it said: no such model"):
        await process.start(asyncio.sleep(60))
    await process.stop()


async def test_a_process_is_ended(tmp_path: Path) -> None:
    process = ServerProcess(["/bin/sh", "-c", "read line"], tmp_path / "log")
    await process.start(asyncio.sleep(0))
    await process.stop()
    await process.stop()
