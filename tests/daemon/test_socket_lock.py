"""One socket, one daemon."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bise_daemon.config.address import TcpAddress, UnixAddress
from bise_daemon.socket_lock import AddressInUseError, own_socket


@pytest.fixture
def address(tmp_path: Path) -> UnixAddress:
    return UnixAddress(tmp_path / "deep" / "er" / "bise.sock")


def listen(address: UnixAddress) -> None:
    """Leaves a socket at the address, as a daemon does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address.path))


def test_the_folder_is_made_and_the_socket_removed(address: UnixAddress) -> None:
    with own_socket(address):
        listen(address)
        assert address.path.is_socket()
    assert not address.path.exists()


def test_the_socket_is_removed_after_an_error_too(address: UnixAddress) -> None:
    def fail() -> None:
        with own_socket(address):
            listen(address)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not address.path.exists()


def test_the_address_is_free_again_afterwards(address: UnixAddress) -> None:
    for _ in range(2):
        with own_socket(address):
            listen(address)


def test_a_second_daemon_is_told_and_the_first_keeps_its_socket(address: UnixAddress) -> None:
    with own_socket(address):
        listen(address)
        explained = r"bise\.sock: another daemon .* Stop it, or choose another"
        with pytest.raises(AddressInUseError, match=explained), own_socket(address):
            pytest.fail("two own one socket")
        assert address.path.is_socket()


def test_what_a_killed_daemon_left_is_taken_over(address: UnixAddress) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from bise_daemon.config.address import UnixAddress\n"
        "from bise_daemon.socket_lock import own_socket\n"
        "import socket\n"
        "path = Path(sys.argv[1])\n"
        "with own_socket(UnixAddress(path)):\n"
        "    socket.socket(socket.AF_UNIX).bind(str(path))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(address.path)], check=False, timeout=30)
    assert address.path.is_socket()
    with own_socket(address):
        assert not address.path.exists()


def test_a_file_that_is_no_socket_is_not_ours_to_remove(address: UnixAddress) -> None:
    address.path.parent.mkdir(parents=True)
    address.path.write_text("a diary")
    with pytest.raises(FileExistsError, match="expected a socket or nothing there"), own_socket(address):
        pytest.fail("served over a diary")
    assert address.path.read_text() == "a diary"


def test_a_lock_that_leads_elsewhere_is_not_followed(address: UnixAddress, tmp_path: Path) -> None:
    address.path.parent.mkdir(parents=True)
    (address.path.parent / "bise.sock.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), own_socket(address):
        pytest.fail("locked elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_stays_open(address: UnixAddress) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with own_socket(address):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_port_needs_no_lock(tmp_path: Path) -> None:
    with own_socket(TcpAddress("127.0.0.1", 1)):
        assert not list(tmp_path.iterdir())
