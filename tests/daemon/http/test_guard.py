"""Which requests a browser may make."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from bise_daemon.http.guard import Guard


async def passes(headers: dict[str, str], *, any_host: bool = False) -> bool:
    statuses = []

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    await Guard(PlainTextResponse("in"), any_host)(scope, receive, send)
    assert statuses in ([200], [403])
    return statuses == [200]


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "127.0.0.2", "[::1]:8080", "LOCALHOST"])
async def test_names_of_this_machine_are_taken(host: str) -> None:
    assert await passes({"host": host})


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.5",
        "[::",
    ],
)
async def test_other_names_are_refused_on_loopback_alone(host: str) -> None:
    assert not await passes({"host": host})
    assert await passes({"host": host}, any_host=True)


@pytest.mark.parametrize("any_host", [False, True])
async def test_pages_of_this_server_may_ask(any_host: bool) -> None:
    assert await passes({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, any_host=any_host)


@pytest.mark.parametrize("any_host", [False, True])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:9090", "https://127.0.0.1:8080", "file://"]
)
async def test_pages_of_others_may_not(origin: str, any_host: bool) -> None:
    assert not await passes({"host": "127.0.0.1:8080", "origin": origin}, any_host=any_host)
