"""One daemon for one socket: a second one must not silently take the first one's callers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bise_daemon.config.address import Address, UnixAddress


class AddressInUseError(RuntimeError):
    """Another daemon serves this address."""


@contextmanager
def own_socket(address: Address) -> Iterator[None]:
    """Holds the address for this process: for a unix socket, its folder is made and a lock file beside it is held.

    A socket left behind by a killed daemon is taken over: its lock died with it.

    Raises:
        AddressInUseError: another process holds it.
        OSError: the folder can't be made or written.
    """
    if not isinstance(address, UnixAddress):
        yield
        return
    address.path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{address.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AddressInUseError(
                f"{address}: another daemon serves this address. Stop it, or choose another with --listen."
            ) from None
        address.path.unlink(missing_ok=True)
        yield
        address.path.unlink(missing_ok=True)
    finally:
        os.close(lock)
