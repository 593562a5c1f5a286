"""The section `http`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bise_daemon.config.address import Address, TcpAddress, UnixAddress
from bise_daemon.config.http import HttpConfig
from bise_daemon.config.load import config_from_flags, load_config
from bise_daemon.config.problem import ConfigError

LOOPBACK = TcpAddress("127.0.0.1", 8080)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bise.yaml"


def told(flags: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        config_from_flags({"bundle": "x", **flags})
    return [str(problem) for problem in refusal.value.problems]


def test_it_is_off_unless_asked_for() -> None:
    assert config_from_flags({"bundle": "x"}).http is None
    assert config_from_flags({"bundle": "x", "http": {"listen": None, "page": None}}).http is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", LOOPBACK),
        ("tcp://127.0.0.1:8080", LOOPBACK),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("unix:///run/bise/http.sock", UnixAddress(Path("/run/bise/http.sock"))),
    ],
)
def test_where_it_listens(text: str, address: Address) -> None:
    assert config_from_flags({"bundle": "x", "http": {"listen": text}}).http == HttpConfig(listen=address)


def test_a_flag_goes_before_its_setting_and_leaves_the_others(file: Path) -> None:
    file.write_text("bundle: x\nhttp:\n  listen: 127.0.0.1:1\n  page: true\n")
    config = load_config(file, {"http": {"listen": "127.0.0.1:8080", "page": None}})
    assert config.http == HttpConfig(listen=LOOPBACK, page=True)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"http": {"listen": "8080"}}, "--http: expected tcp://HOST:PORT and nothing more, got '8080'"),
        (
            {"http": {"page": True}},
            "--http: expected 127.0.0.1:PORT or unix:///absolute/path.sock, got nothing. Add the key.",
        ),
        ({"http": {"listen": "0.0.0.0:8080"}}, "--http: expected an address only this machine can reach"),
        (
            {"http": {"listen": "0.0.0.0:8080", "page": True}, "allow_remote": True},
            "--page: expected false beyond this machine",
        ),
    ],
    ids=["no address", "a page alone", "remote", "a remote page"],
)
def test_wrong_flags_are_told_as_flags(flags: dict[str, Any], problem: str) -> None:
    (said,) = told(flags)
    assert said.startswith(problem)


def test_wrong_settings_are_told_with_their_line(file: Path) -> None:
    file.write_text("bundle: x\nhttp:\n  listen: 127.0.0.1:8080\n  page: 1\n  port: 5\n")
    with pytest.raises(ConfigError) as refusal:
        load_config(file, {"http": {"listen": "127.0.0.1:9090"}})
    assert [str(problem) for problem in refusal.value.problems] == [
        f"{file}:4: http.page: expected true or false, got 1",
        f"{file}:5: http.port: expected a known key, got an unknown one. There are: listen, page.",
    ]


def test_beyond_this_machine_it_needs_to_be_allowed() -> None:
    config = config_from_flags({"bundle": "x", "http": {"listen": "0.0.0.0:8080"}, "allow_remote": True})
    assert config.http == HttpConfig(listen=TcpAddress("0.0.0.0", 8080))
