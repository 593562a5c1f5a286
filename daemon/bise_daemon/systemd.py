"""What the daemon tells systemd of its life: the protocol of sd_notify(3), datagrams of `NAME=value` lines."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

logger = logging.getLogger(__name__)

_NOTIFY_SOCKET, _WATCHDOG_USEC, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ManagerError(ValueError):
    """The environment names a service manager that can't be told anything."""


class ServiceManager:
    """Who started the daemon and wants to know how it is; where nobody does, nothing is said.

    All methods may be called from any thread, and none of them waits: what can't be told is lost, with one warning,
    since a manager that does not listen is no reason to end.

    Args:
        address: of its datagram socket, a path, or `@name` for an abstract one; None where nobody listens.
        watchdog_s: it ends the daemon when nothing says `alive` for so long; None where it does not watch.

    Raises:
        ManagerError: the address is of another kind.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        if address is not None and not address.startswith(("/", "@")):
            raise ManagerError(f"{_NOTIFY_SOCKET}: expected an absolute path or @name, got {address!r}. Unset it.")
        self._address = address
        self._is_deaf = False
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """The manager that the environment names. It is taken out of there: children are not the service.

        Raises:
            ManagerError: what is named can't be used.
        """
        address = environment.pop(_NOTIFY_SOCKET, None)
        watchdog_us, pid = environment.pop(_WATCHDOG_USEC, None), environment.pop(_WATCHDOG_PID, None)
        if watchdog_us is None or pid not in (None, str(os.getpid())):
            return cls(address)
        if not watchdog_us.isascii() or not watchdog_us.isdecimal() or not int(watchdog_us):
            raise ManagerError(f"{_WATCHDOG_USEC}: expected microseconds, got {watchdog_us!r}. Unset it.")
        return cls(address, int(watchdog_us) / 1e6)

    def status(self, text: str) -> None:
        """Has `systemctl status` show a line."""
        self._tell(_status(text))

    def loading(self, text: str, patience_s: float) -> None:
        """The start makes progress; it has failed if nothing more is heard for `patience_s`."""
        self._tell(_extension(patience_s), _status(text))

    def ready(self, text: str) -> None:
        """The daemon serves: after its start, or after a reload."""
        self._tell("READY=1", _status(text))

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends this."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, text: str, patience_s: float) -> None:
        """The daemon has begun to end, and will have ended within `patience_s`."""
        self._tell("STOPPING=1", _extension(patience_s), _status(text))

    def alive(self) -> None:
        """The work goes on. To be called by who does it, never by a timer."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
                speaking.setblocking(False)
                speaking.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._is_deaf:
                logger.warning("%s: the service manager does not listen: %s", self._address, error.strerror)
            self._is_deaf = True


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"


def _extension(patience_s: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(patience_s * 1e6)}"
