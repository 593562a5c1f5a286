"""Where the daemon listens: a unix socket, or a TCP port."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_MAX_SOCKET_PATH_BYTES = 107  # Linux: sockaddr_un has 108, the last of them a null


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket at an absolute path."""

    path: Path

    @property
    def target(self) -> str:
        """gRPC's spelling."""
        return f"unix:{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return True

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port on one of this machine's addresses; port 0 is any free one."""

    host: str
    port: int

    @property
    def target(self) -> str:
        """gRPC's spelling."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"tcp://{self.target}"


Address = UnixAddress | TcpAddress


def default_address(environ: Mapping[str, str] = os.environ) -> Address:
    """The user's own socket where there is a session, else the system's; the SDK looks in the same places."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    return UnixAddress(Path(runtime, "bise.sock") if runtime else Path("/run/bise/bise.sock"))


def parse_address(text: str) -> Address:
    """The address that `text` spells.

    Raises:
        ValueError: what is wrong with it, to follow "expected".
    """
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"an address that can be read ({error})") from error
    if url.scheme not in ("unix", "tcp") or not text.startswith(f"{url.scheme}://"):
        raise ValueError("unix:///absolute/path.sock or tcp://127.0.0.1:PORT")
    if url.scheme == "unix":
        return _unix(text.removeprefix("unix://"))
    if not host or port is None or url.path or url.query or url.fragment or url.username is not None:
        raise ValueError("tcp://HOST:PORT and nothing more")
    return TcpAddress(host, port)


def _unix(path: str) -> UnixAddress:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError("unix:// and the absolute path of a socket, three slashes in a row")
    if (size := len(path.encode("utf-8"))) > _MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"a socket path of at most {_MAX_SOCKET_PATH_BYTES} bytes (Linux's limit; this one has {size})"
        )
    return UnixAddress(Path(path))
