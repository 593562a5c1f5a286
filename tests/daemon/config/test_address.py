"""Addresses to listen on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bise_daemon.config.address import Address, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address", "target", "is_local"),
    [
        ("unix:///run/bise.sock", UnixAddress(Path("/run/bise.sock")), "unix:/run/bise.sock", True),
        ("tcp://127.0.0.1:50051", TcpAddress("127.0.0.1", 50051), "127.0.0.1:50051", True),
        ("tcp://127.9.9.9:0", TcpAddress("127.9.9.9", 0), "127.9.9.9:0", True),
        ("tcp://localhost:1", TcpAddress("localhost", 1), "localhost:1", True),
        ("tcp://[::1]:50051", TcpAddress("::1", 50051), "[::1]:50051", True),
        ("tcp://0.0.0.0:50051", TcpAddress("0.0.0.0", 50051), "0.0.0.0:50051", False),
        ("tcp://[::]:50051", TcpAddress("::", 50051), "[::]:50051", False),
        ("tcp://box.example:50051", TcpAddress("box.example", 50051), "box.example:50051", False),
    ],
)
def test_addresses_are_read_and_spelled(text: str, address: Address, target: str, is_local: bool) -> None:
    assert parse_address(text) == address
    assert (address.target, address.is_local, str(address)) == (target, is_local, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/run/bise.sock",
        "unix:/run/bise.sock",
        "unix://run/bise.sock",
        "unix:///",
        "unix:///run/",
        "unix:///a\0b",
        "unix:///" + "x" * 107,
        "tcp://127.0.0.1",
        "tcp://:50051",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:x",
        "tcp://[::1:50051",
        "tcp://127.0.0.1:1/path",
        "tcp://user@127.0.0.1:1",
        "http://127.0.0.1:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_address(text)
