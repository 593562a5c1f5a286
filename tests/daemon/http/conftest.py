"""A daemon with a door, and OpenAI's own client before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from bise import Client, Status
from running import RunningDaemon, running

_PATIENCE_S = 30
HTTP = {"listen": "127.0.0.1:0", "page": True}


@pytest.fixture(scope="package")
def daemon(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with running(tiny_bundle, folder, slots=4, max_message_bytes=65536, http=HTTP) as daemon:
        with Client(daemon.address) as client:
            client.wait_until_serving()
        yield daemon


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    """bise's own."""
    with Client(daemon.address) as client:
        yield client


@pytest.fixture
def openai_client(daemon: RunningDaemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.http}/v1", api_key="none") as client:
        yield client


@pytest.fixture
def status_when(client: Client) -> Callable[[Callable[[Status], bool]], Status]:
    """Waits for a status; the watch yields without our sleeping."""

    def wait(ready: Callable[[Status], bool]) -> Status:
        for status in client.watch_status(interval=0.1, timeout=_PATIENCE_S):
            if ready(status):
                return status
        raise AssertionError("the watch ended")

    return wait
