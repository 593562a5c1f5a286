"""The door's life, and callers that are no client at all: over a real socket."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from bise import Client, Status
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.problem import ConfigError
from bise_daemon.loading import Loading
from bise_daemon.models.model import Model, load_model
from bise_daemon.socket_lock import AddressInUseError
from daemon.http.conftest import HTTP
from running import RunningDaemon, running

pytestmark = pytest.mark.slow

Wait = Callable[[Callable[[Status], bool]], Status]
_PATIENCE_S = 30
HELLO: Any = [{"role": "user", "content": "Hello"}]
LONG = json.dumps({"model": "tiny", "prompt": "Hi", "max_tokens": 4000, "stream": True, "bise": {"ignore_eos": True}})


def port_of(daemon: RunningDaemon) -> int:
    assert daemon.http is not None
    return int(daemon.http.rpartition(":")[2])


def ask(daemon: RunningDaemon, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Any:
    """The status, headers and JSON of one request by a client that adds nothing."""
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=_PATIENCE_S)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), json.loads(response.read())


def test_the_status_is_the_daemon_s(daemon: RunningDaemon, client: Client) -> None:
    code, headers, status = ask(daemon, "GET", "/status")
    assert code == 200
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert status["state"] == "SERVING"
    assert status["model"] == "tiny"
    assert status["context_limit"] == client.status().context_limit


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v2", 404),
        ("GET", "/v1/models/none", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/page.js/../../door.py", 404),
        ("GET", "/%2e%2e/door.py", 404),
    ],
)
def test_every_error_has_openai_s_shape(daemon: RunningDaemon, method: str, path: str, code: int) -> None:
    status, headers, answer = ask(daemon, method, path, b"" if method == "POST" else None)
    assert status == code
    assert headers["content-type"] == "application/json"
    assert {"message", "type", "param", "code"} <= set(answer["error"])


@pytest.mark.parametrize(
    "text",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /status HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["noise", "long header", "negative length", "two lengths", "no host", "http/2"],
)
def test_what_is_no_request_gets_an_error_and_the_door_goes_on(daemon: RunningDaemon, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(daemon)), timeout=_PATIENCE_S) as caller:
        caller.sendall(text)
        answer = caller.recv(1000)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431"))
    assert ask(daemon, "GET", "/status")[0] == 200


def test_who_leaves_within_their_request_is_no_failure(daemon: RunningDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", port_of(daemon)), timeout=_PATIENCE_S) as caller:
        caller.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
    assert ask(daemon, "GET", "/status")[0] == 200
    assert caplog.records == []


def test_a_body_without_a_length_is_bounded_as_well(daemon: RunningDaemon) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port_of(daemon)), timeout=_PATIENCE_S) as caller:
        caller.sendall(head + chunk * 3)
        assert caller.recv(1000).startswith(b"HTTP/1.1 413")


def test_who_never_reads_keeps_no_slot(daemon: RunningDaemon, client: Client, status_when: Wait) -> None:
    before = client.status()
    request = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(LONG)}\r\n\r\n{LONG}"
    with socket.create_connection(("127.0.0.1", port_of(daemon)), timeout=_PATIENCE_S) as caller:
        caller.sendall(request.encode())
        after = status_when(lambda status: status.requests_finished == before.requests_finished + 1)
    assert after.slots_used == 0


def test_what_is_asked_before_the_model_is_there_is_to_be_asked_again(tiny_bundle: Path, tmp_path: Path) -> None:
    waiting = threading.Event()

    def load(config: DaemonConfig, loading: Loading) -> Model:
        assert waiting.wait(_PATIENCE_S)
        return load_model(config, loading)

    with running(tiny_bundle, tmp_path, load=load, http=HTTP) as daemon:
        try:
            assert ask(daemon, "GET", "/status")[2]["state"] == "LOADING"
            for asked in (("GET", "/v1/models"), ("POST", "/v1/completions", LONG)):
                code, headers, answer = ask(daemon, *asked)
                assert (code, answer["error"]["code"]) == (503, "LOADING")
                assert headers["retry-after"] == "1"
        finally:
            waiting.set()
        with openai.OpenAI(base_url=f"{daemon.http}/v1", api_key="none", max_retries=20) as client:
            assert client.models.list().data[0].id == "tiny"  # it waits by itself


def ask_until_refused(caller: openai.OpenAI) -> None:
    while True:
        caller.models.list()


def test_a_drain_ends_what_is_open_and_takes_no_more(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, http=HTTP) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        with openai.OpenAI(base_url=f"{daemon.http}/v1", api_key="none", max_retries=0) as caller:
            stream = caller.completions.create(
                model="tiny", prompt="Hi", max_tokens=200, stream=True, extra_body={"bise": {"ignore_eos": True}}
            )
            next(iter(stream))
            daemon.stop()
            with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
                ask_until_refused(caller)
            assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"
        daemon.ended.result(_PATIENCE_S)


class Broken:
    """A session whose fourth step of an answer fails."""

    def __init__(self, model: Model) -> None:
        self._session = model.session
        self._left = 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def decode(self, *args: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise MemoryError("the device is out of memory")
        return self._session.decode(*args)


def test_an_engine_that_breaks_ends_a_stream_with_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    def load(config: DaemonConfig, loading: Loading) -> Model:
        model = load_model(config, loading)
        return replace(model, session=Broken(model))  # type: ignore[arg-type]  # as much as the engine needs

    def ask_for_much() -> None:
        with running(tiny_bundle, tmp_path, load=load, http=HTTP) as daemon, Client(daemon.address) as client:
            client.wait_until_serving()
            with openai.OpenAI(base_url=f"{daemon.http}/v1", api_key="none", max_retries=0) as caller:
                stream = caller.chat.completions.create(
                    model="tiny", messages=HELLO, stream=True, extra_body={"bise": {"ignore_eos": True}}
                )
                with pytest.raises(openai.APIError) as failure:
                    list(stream)
            assert failure.value.code == "ENGINE_FAILED"
            daemon.ended.exception(_PATIENCE_S)

    with pytest.raises(MemoryError, match="out of memory"):
        ask_for_much()


def test_a_unix_socket_will_do(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with running(tiny_bundle, tmp_path, http={"listen": f"unix://{path}"}) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(_PATIENCE_S)
            caller.connect(str(path))
            caller.sendall(b"GET /v1/models HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n")
            assert caller.recv(10_000).startswith(b"HTTP/1.1 200")
    assert not path.exists()


def test_one_address_has_one_daemon(daemon: RunningDaemon, tiny_bundle: Path, tmp_path: Path) -> None:
    def start(listen: str) -> None:
        with running(tiny_bundle, tmp_path, http={"listen": listen}):
            pass

    with pytest.raises(OSError, match=r"can't listen: .*--http"):
        start(f"127.0.0.1:{port_of(daemon)}")
    with pytest.raises(AddressInUseError):
        start(daemon.address)


def test_a_missing_package_is_one_sentence(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bise_daemon.http.door", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    def start() -> None:
        with running(tiny_bundle, tmp_path, http=HTTP):
            pass

    with pytest.raises(ConfigError, match=r"^http: expected the package uvicorn .* pip install 'bise\[http\]'$"):
        start()


def test_there_is_no_page_unless_asked_for(tiny_bundle: Path, tmp_path: Path, daemon: RunningDaemon) -> None:
    with running(tiny_bundle, tmp_path, http={"listen": "127.0.0.1:0"}) as plain:
        assert ask(plain, "GET", "/")[0] == 404
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=_PATIENCE_S)) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
