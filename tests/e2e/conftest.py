"""The real model served twice: as it is by default, and with nothing that could change a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bise import Client, Result, Status
from bise.messages import Conversation
from running import running

PATIENCE_S = 120


@pytest.fixture(scope="module")
def client(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a daemon that keeps what was computed and guesses ahead."""
    folder = tmp_path_factory.mktemp("daemon")
    with running(smollm2_bundle, folder, context=2048, slots=4) as daemon, Client(daemon.address) as client:
        client.wait_until_serving(timeout=PATIENCE_S)
        yield client


class Plain:
    """Asks a daemon that keeps nothing, and has it forget what it computed last: until the next step that is found."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def generate(self, prompt: str, **options: Any) -> Result:
        self._forget()
        return self._client.generate(prompt, **options)

    def chat(self, messages: Conversation, **options: Any) -> Result:
        self._forget()
        return self._client.chat(messages, **options)

    def _forget(self) -> None:
        self._client.generate([100], max_tokens=1, ignore_eos=True)  # nothing begins with this


@pytest.fixture(scope="module")
def plain(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    """Of a daemon that computes every token from the start, as a fresh one would."""
    settings = {"context": 2048, "slots": 4, "prefix_slots": 0, "prefix_tokens": 0, "draft_tokens": 0}
    folder = tmp_path_factory.mktemp("plain")
    with running(smollm2_bundle, folder, **settings) as daemon, Client(daemon.address) as client:
        client.wait_until_serving(timeout=PATIENCE_S)
        yield Plain(client)


def status_when(client: Client, ready: Callable[[Status], bool]) -> Status:
    """The first status for which `ready` is true."""
    for status in client.watch_status(interval=0.1, timeout=PATIENCE_S):
        if ready(status):
            return status
    raise AssertionError("the watch ended")
