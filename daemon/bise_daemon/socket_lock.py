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
        OSError: the folder can't be made or written, or something else than a socket is at the path.
    """
    if not isinstance(address, UnixAddress):
        yield
        return
    address.path.parent.mkdir(parents=True, exist_ok=True)
    # The lock file stays: removing it would let a third daemon lock a new one beside a second's old one.
    lock = os.open(f"{address.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AddressInUseError(
                f"{address}: another daemon serves this address. Stop it, or choose another with --listen."
            ) from None
        _remove_socket(address)
        try:
            yield
        finally:
            _remove_socket(address)
    finally:
        os.close(lock)


def _remove_socket(address: UnixAddress) -> None:
    if address.path.is_socket():
        address.path.unlink(missing_ok=True)
    elif address.path.exists():
        raise FileExistsError(
            f"{address}: expected a socket or nothing there, got a file. Choose another with --listen."
        )
