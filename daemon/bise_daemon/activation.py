"""A socket that systemd listens on for the daemon: calls that come before it is there wait, and are not refused."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bise_daemon.config.address import Address, TcpAddress, UnixAddress

_LISTEN_FDS, _LISTEN_PID, _LISTEN_FDNAMES = "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"
_FIRST_DESCRIPTOR = 3
_BACKLOG = 4096


class ActivationError(ValueError):
    """What systemd handed over is not what the configuration says."""


def inherited_socket(listen: Address, environment: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The socket that systemd listens on for this process (sd_listen_fds(3)); None where there is none.

    The environment's entries are removed: children are given nothing.

    Args:
        listen: where it is to be.

    Raises:
        ActivationError: there are several, or it is elsewhere.
    """
    pid, count = environment.pop(_LISTEN_PID, None), environment.pop(_LISTEN_FDS, "0")
    environment.pop(_LISTEN_FDNAMES, None)
    if pid != str(os.getpid()) or count == "0":
        return None
    if count != "1":
        raise ActivationError(
            f"expected one socket from systemd, got {count}. Leave one ListenStream= in the socket unit."
        )
    given = socket.socket(fileno=_FIRST_DESCRIPTOR)
    given.set_inheritable(False)
    if (found := _address(given)) != listen:
        given.close()
        raise ActivationError(f"expected systemd to listen on {listen}, got {found}. Change `listen` or ListenStream=.")
    return given


def _address(given: socket.socket) -> Address | str:
    name = given.getsockname()
    if given.type != socket.SOCK_STREAM or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "a socket that takes no connections"
    if given.family == socket.AF_UNIX and isinstance(name, str):
        return UnixAddress(Path(name))
    if given.family in (socket.AF_INET, socket.AF_INET6):
        return TcpAddress(name[0], name[1])
    return f"a socket of {given.family.name}"


@contextmanager
def private_address() -> Iterator[UnixAddress]:
    """An address in a folder that only this user can enter, removed when the block is left."""
    with TemporaryDirectory(prefix="bise-", ignore_cleanup_errors=True) as folder:
        yield UnixAddress(Path(folder, "grpc.sock"))


class Relay:
    """Passes connections on an inherited socket on to the one that gRPC listens on.

    gRPC's Python library can neither listen on a descriptor that it is given nor take over a connection. So bytes go
    through the event loop once more; ARCHITECTURE says what that costs.

    Args:
        given: listens already; closed in the end.
        target: where gRPC listens.
    """

    def __init__(self, given: socket.socket, target: UnixAddress) -> None:
        self._given = given
        self._target = target
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes connections from here on, those first that waited."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _End(self._ends, self._opened), sock=self._given, backlog=_BACKLOG
        )

    def rest(self) -> None:
        """Takes no more connections: they wait for the next daemon. Those that are there go on."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Ends all connections."""
        self.rest()
        for end in self._ends:
            end.transport.abort()
        while self._ends:
            await asyncio.sleep(0)  # until the event loop has let go of them

    def _opened(self, caller: _End) -> None:
        task = asyncio.ensure_future(self._connect(caller))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, caller: _End) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: _End(self._ends, caller.join), str(self._target.path)
            )
        except OSError:
            caller.transport.close()  # gRPC stopped


class _End(asyncio.Protocol):
    """One end of a connection: what comes in goes out at the other, no faster than that takes it."""

    transport: asyncio.Transport

    def __init__(self, ends: set[_End], opened: Callable[[_End], None]) -> None:
        self._ends = ends
        self._opened = opened
        self.other: _End | None = None
        self._early = b""

    def join(self, other: _End) -> None:
        """Has both ends pass on what comes in, beginning with what came before."""
        if self.transport.is_closing():
            other.transport.close()
            return
        self.other, other.other = other, self
        other.transport.write(self._early)
        self._early = b""
        self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ends.add(self)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            # Pausing before the first piece does not hold in every release of asyncio.
            self._early += data
            self.transport.pause_reading()
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        assert self.other is not None
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        assert self.other is not None
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._ends.discard(self)
        if self.other is not None:
            self.other.transport.close()
