from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bise.address import Address, default_url, parse
from bise.errors import InvalidRequest


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("unix:///run/bise/bise.sock", "unix:///run/bise/bise.sock"),
        ("unix:///tmp/a b%41.sock", "unix:///tmp/a%20b%2541.sock"),
        ("tcp://127.0.0.1:4711", "dns:///127.0.0.1:4711"),
        ("tcp://box.local:1", "dns:///box.local:1"),
        ("tcp://[::1]:4711", "dns:///[::1]:4711"),
    ],
)
def test_a_url_names_a_grpc_target(url: str, target: str) -> None:
    assert parse(url).target == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/run/bise.sock",
        "unix://relative.sock",
        "unix:///" + "x" * 107,
        "http://localhost:80",
        "tcp://localhost",
        "tcp://:80",
        "tcp://localhost:0",
        "tcp://localhost:65536",
        "tcp://localhost:80/path",
        "tcp://user@localhost:80",
        "tcp://[::1:80",
    ],
)
def test_any_other_url_is_refused_with_what_was_expected(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"address: expected .*, got") as caught:
        parse(url)
    assert caught.value.field == "address"


def test_the_environment_names_the_default() -> None:
    assert default_url({"BISE_ADDRESS": "tcp://box:1", "XDG_RUNTIME_DIR": "/run/user/7"}) == "tcp://box:1"


def test_without_it_the_users_own_socket_is_meant() -> None:
    assert default_url({"XDG_RUNTIME_DIR": "/nonexistent"}) == "unix:///nonexistent/bise.sock"


def test_without_a_user_the_systems_socket_is_meant() -> None:
    assert default_url({}) == "unix:///run/bise/bise.sock"


def test_the_diagnosis_tells_what_the_file_system_knows(tmp_path: Path) -> None:
    path = tmp_path / "bise.sock"
    address = parse(f"unix://{path}")
    assert address.diagnosis() == "there is no such socket"
    path.write_text("")
    assert address.diagnosis() == "it is not a socket"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert "nobody listens" in address.diagnosis()
    assert Address("tcp://box:1", "dns:///box:1").diagnosis() == ""
