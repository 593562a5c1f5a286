"""Where the daemon listens: `unix:///path/to.sock` or `tcp://host:port`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from bise.errors import InvalidRequest

_SYSTEM_SOCKET = Path("/run/bise/bise.sock")
# sun_path is 108 bytes with its final NUL.
_SOCKET_PATH_LIMIT_BYTES = 107


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address: `url` as people write it, `target` as gRPC wants it, `socket` when it is a unix socket."""

    url: str
    target: str
    socket: Path | None = None

    def diagnosis(self) -> str:
        """Why nobody may be answering, as far as the file system knows; empty when it has nothing to say."""
        if self.socket is None:
            return ""
        try:
            if not self.socket.exists():
                return "there is no such socket"
        except PermissionError:
            return "its folder may not be entered by this user"
        if not self.socket.is_socket():
            return "it is not a socket"
        if not os.access(self.socket, os.R_OK | os.W_OK):
            return "this user may not use the socket"
        return "the socket is there, but nobody listens"


def parse(url: str) -> Address:
    """The address a URL names; a socket's path is taken literally, `%` and all.

    Raises:
        InvalidRequest: not a URL of either form.
    """
    scheme, separator, rest = url.partition("://")
    parser = {"unix": _unix, "tcp": _tcp}.get(scheme)
    if not separator or parser is None:
        raise _invalid(url, "unix:///path/to.sock or tcp://host:port")
    return parser(url, rest)


def default_url(environ: Mapping[str, str] = os.environ) -> str:
    """`$BISE_ADDRESS`, else the user's own socket, else the system's; of the last two the first that exists."""
    if url := environ.get("BISE_ADDRESS"):
        return url
    runtime = environ.get("XDG_RUNTIME_DIR")
    sockets = [*([Path(runtime, "bise.sock")] if runtime else []), _SYSTEM_SOCKET]
    return f"unix://{next(filter(os.path.exists, sockets), sockets[0])}"


def _unix(url: str, path: str) -> Address:
    size_bytes = len(os.fsencode(path))
    if not path.startswith("/"):
        raise _invalid(url, "an absolute path after unix://")
    if size_bytes > _SOCKET_PATH_LIMIT_BYTES:
        raise _invalid(url, f"a path of at most {_SOCKET_PATH_LIMIT_BYTES} bytes (it has {size_bytes})")
    return Address(url, f"unix://{quote(path)}", Path(path))


def _tcp(url: str, _rest: str) -> Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _invalid(url, "tcp://host:port with a port of 1 to 65535") from None
    if not host or not port or parts.path or parts.query or parts.username is not None:
        raise _invalid(url, "tcp://host:port with a port of 1 to 65535")
    return Address(url, f"dns:///[{host}]:{port}" if ":" in host else f"dns:///{host}:{port}")


def _invalid(url: str, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"address: expected {expected}, got {url!r}. Give it to the client, or set BISE_ADDRESS.",
        reason="INVALID_ADDRESS",
        numbers={"field": "address"},
    )
