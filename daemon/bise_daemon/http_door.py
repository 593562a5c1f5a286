"""The HTTP door, where the config wants one and its packages are there."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from bise_daemon.answering import Answering
from bise_daemon.config.address import Address, UnixAddress
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.problem import ConfigError, Problem
from bise_daemon.serving import Stage
from bise_daemon.status import DeviceService

_PACKAGES = ("anyio", "starlette", "uvicorn")


def http_door(
    config: DaemonConfig, stage: Stage, answering: Answering, device: DeviceService
) -> AbstractAsyncContextManager[Address | None]:
    """Open within the block, at the address it gives; None where there is no such door.

    Raises:
        ConfigError: HTTP needs packages that are missing.
    """
    http = config.http
    if http is None:
        return nullcontext()
    try:
        from bise_daemon.http.app import make_app
        from bise_daemon.http.door import listening
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        message = f"expected the package {error.name} for HTTP, got none. Install it: pip install 'bise[http]'"
        raise ConfigError([Problem("http", message, 0)]) from error
    any_host = isinstance(http.listen, UnixAddress) or not http.listen.is_local
    app = make_app(stage, answering, device.status, config.max_message_bytes, page=http.page, any_host=any_host)
    return listening(app, http.listen, config.slots + config.max_queue)
