"""Fixtures of the SDK's tests: a fake daemon to talk to, and one with a gate to hold answers back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from bise import Client
from bise.testing import Answer, FakeDaemon, Gate


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """Greets every request with "Hello there"."""
    with FakeDaemon() as running:
        yield running


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(daemon.address, timeout=10) as connected:
        yield connected


@pytest.fixture
def gate() -> Gate:
    return Gate()


class CtrlCGate(Gate):
    """Presses Ctrl-C when a token has to wait, and goes on holding it back."""

    def take(self, gone: threading.Event, until: float | None = None) -> bool:
        if not self._permits:
            # Sent to the main thread itself: only there does it end a wait.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return super().take(gone, until)


@pytest.fixture
def ctrl_c_gate() -> Gate:
    return CtrlCGate()


@pytest.fixture
def gated_daemon(gate: Gate) -> Iterator[FakeDaemon]:
    """Its first answer has five tokens, which wait at the gate; the second is "fine"."""
    with FakeDaemon([Answer("one two three four five", gate=gate), "fine"]) as running:
        yield running


@pytest.fixture
def gated_client(gated_daemon: FakeDaemon) -> Iterator[Client]:
    with Client(gated_daemon.address, timeout=10) as connected:
        yield connected
