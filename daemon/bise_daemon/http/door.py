"""The door's life: listen, serve on the daemon's own event loop, close."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from bise_daemon.config.address import Address, TcpAddress
from bise_daemon.socket_lock import own_socket

logger = logging.getLogger(__name__)

# Connections beside those whose requests run or wait: pages that look at the status, clients between two requests.
_SPARE_CONNECTIONS = 64
_BACKLOG = 128
# Time for answers that have ended to be read.
_STOP_GRACE_S = 2


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves signals to the daemon."""
        yield


@asynccontextmanager
async def listening(app: Starlette, address: Address, max_requests: int) -> AsyncIterator[Address]:
    """Serves `app` while the block is open.

    Args:
        max_requests: how many may run or wait.

    Yields:
        The address in use: a TCP port 0 is resolved.

    Raises:
        AddressInUseError, OSError: the address can't be had.
    """
    with own_socket(address):
        listener = _listener(address)
        if isinstance(address, TcpAddress):
            address = TcpAddress(address.host, listener.getsockname()[1])
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=max_requests + _SPARE_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_GRACE_S,
        )
        server = _Server(config)
        logger.info("HTTP on %s", address)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield address
        finally:
            server.should_exit = True
            await serving


def _listener(address: Address) -> socket.socket:
    try:
        if isinstance(address, TcpAddress):
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(address.path))
        listener.listen(_BACKLOG)
        return listener
    except OSError as error:
        raise OSError(f"{address}: can't listen: {error.strerror}. Choose another address with --http.") from error
