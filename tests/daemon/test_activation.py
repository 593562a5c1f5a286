"""A socket that somebody else listens on, and the relay behind it, with real sockets and no gRPC."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bise_daemon.activation import Relay, inherited_socket, private_address
from bise_daemon.config.address import UnixAddress

LARGE = os.urandom(4 << 20)
_TRY = """
import os, sys
from bise_daemon.activation import inherited_socket
from bise_daemon.config.address import parse_address
os.environ["LISTEN_PID"] = str(os.getpid())
found = inherited_socket(parse_address(sys.argv[1]))
print(None if found is None else found.getsockname(), sorted(name for name in os.environ if "LISTEN" in name))
"""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bise.sock"))
        listener.listen()
        yield listener


def take(listening: socket.socket, address: str, count: str = "1") -> str:
    """What a process says that is given the socket as systemd gives it."""
    ended = subprocess.run(
        [sys.executable, "-c", _TRY, address],
        preexec_fn=lambda: os.dup2(listening.fileno(), 3),
        pass_fds=[3],
        env={**os.environ, "LISTEN_FDS": count, "LISTEN_FDNAMES": "bised.socket"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.stdout.strip() or ended.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_socket_is_taken_and_not_passed_on(listening: socket.socket) -> None:
    path = listening.getsockname()
    assert take(listening, f"unix://{path}") == f"{path} []"


@pytest.mark.slow
def test_a_socket_elsewhere_is_refused(listening: socket.socket) -> None:
    said = take(listening, "unix:///elsewhere/bise.sock")
    assert f"expected systemd to listen on unix:///elsewhere/bise.sock, got unix://{listening.getsockname()}" in said


@pytest.mark.slow
def test_several_sockets_are_refused(listening: socket.socket) -> None:
    assert "expected one socket from systemd, got 2" in take(listening, "unix:///a", "2")


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_what_is_another_processes_is_not_taken(environment: dict[str, str]) -> None:
    assert inherited_socket(UnixAddress(Path("/a")), environment) is None
    assert environment == {}


def test_a_private_address_is_its_users_alone_and_goes_again() -> None:
    with private_address() as address:
        assert address.path.parent.stat().st_mode & 0o077 == 0
    assert not address.path.parent.exists()


@pytest.fixture
async def relay(listening: socket.socket) -> AsyncIterator[Relay]:
    """Before a server that gives every line back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    with private_address() as address:
        server = await asyncio.start_unix_server(echo, address.path)
        relay = Relay(listening, address)
        yield relay
        await relay.stop()
        server.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)  # each echo closes what it has


async def test_who_came_before_it_is_served_too(listening: socket.socket, relay: Relay) -> None:
    reader, writer = await asyncio.open_unix_connection(listening.getsockname())
    writer.write(b"early")
    await relay.start()
    assert await reader.readexactly(5) == b"early"
    writer.close()
    await writer.wait_closed()


async def test_more_than_any_buffer_comes_through_unchanged(listening: socket.socket, relay: Relay) -> None:
    await relay.start()
    reader, writer = await asyncio.open_unix_connection(listening.getsockname())
    writer.write(LARGE)
    assert await reader.readexactly(len(LARGE)) == LARGE
    writer.close()
    await writer.wait_closed()


async def test_a_resting_relay_keeps_who_is_there_and_lets_others_wait(
    listening: socket.socket, relay: Relay, tmp_path: Path
) -> None:
    kept = os.dup(listening.fileno())  # as systemd does
    await relay.start()
    reader, writer = await asyncio.open_unix_connection(listening.getsockname())
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    relay.rest()
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    with socket.socket(fileno=kept) as systemds:
        _, late = await asyncio.open_unix_connection(str(tmp_path / "bise.sock"))
        systemds.settimeout(5)
        systemds.accept()[0].close()
        late.close()
    await relay.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_without_a_server_behind_it_callers_are_let_go(listening: socket.socket, tmp_path: Path) -> None:
    relay = Relay(listening, UnixAddress(tmp_path / "nobody"))
    await relay.start()
    reader, writer = await asyncio.open_unix_connection(listening.getsockname())
    assert await reader.read() == b""
    writer.close()
    await relay.stop()
