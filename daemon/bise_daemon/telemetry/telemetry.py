"""Telemetry as the daemon has it: something that watches answers, and something that tells."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Protocol

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.problem import ConfigError, Problem
from bise_daemon.sensors.body import Sensors
from bise_daemon.serving import Stage
from bise_daemon.telemetry import device
from bise_daemon.telemetry.answers import Answers, Responses
from bise_daemon.telemetry.device import Vitals
from bise_daemon.telemetry.metric import Family
from bise_daemon.telemetry.traces import Traces, sampling_parent
from bise_proto.v1 import device_pb2

# The event loop answers within a millisecond or two; one that doesn't is worth a failed scrape.
_LOOP_PATIENCE_S = 5.0


class Telemetry(Protocol):
    """What the doors call."""

    def watched(self, operation: str, responses: Responses, traceparent: str | None) -> Responses:
        """The same responses, watched; see `Answers.watched`.

        Args:
            traceparent: the caller's span, as W3C's Trace Context spells it, checked by nobody yet.
        """
        ...


class NoTelemetry:
    """Nobody wants to know."""

    def watched(self, operation: str, responses: Responses, traceparent: str | None) -> Responses:  # noqa: ARG002
        """The same responses."""
        return responses


NO_TELEMETRY = NoTelemetry()


class Collection:
    """Answers, device and daemon, collected from any thread but the event loop's.

    Args:
        stage: says which model answers.
        status: the daemon's; called on the event loop.
        sensors: the device's.
    """

    def __init__(self, stage: Stage, status: Callable[[], device_pb2.Status], sensors: Sensors) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers = Answers(stage)
        self._status = status
        self._sensors = sensors
        self._sensing = threading.Lock()  # energy is counted from one reading to the next
        self.others: list[Callable[[], Iterable[Family]]] = []
        """What else is to be told; called on the threads that collect."""
        self.traces: Traces | None = None
        """Set where spans are exported."""

    def watched(self, operation: str, responses: Responses, traceparent: str | None) -> Responses:
        """The same responses, watched; traced too, if the caller asks for that and there is somewhere to send it."""
        watched = self._answers.watched(operation, responses)
        if self.traces is not None and (parent := sampling_parent(traceparent)) is not None:
            return self.traces.watched(operation, watched, self._answers.model, parent)
        return watched

    def collect(self) -> list[Family]:
        """All there is to tell now.

        Raises:
            TimeoutError: the event loop does not answer.
        """
        with self._sensing:
            body = self._sensors.read()
        looked: Future[tuple[list[Family], device_pb2.Status]] = Future()
        self._loop.call_soon_threadsafe(self._look, looked)
        answers, status = looked.result(_LOOP_PATIENCE_S)
        others = (family for each in self.others for family in each())
        return [*answers, *device.families(Vitals(status, body)), *others]

    def _look(self, looked: Future[tuple[list[Family], device_pb2.Status]]) -> None:
        try:
            looked.set_result((list(self._answers.families()), self._status()))
        except Exception as error:  # noqa: BLE001 - for who asked
            looked.set_exception(error)


@contextmanager
def telling(config: DaemonConfig, stage: Stage, status: Callable[[], device_pb2.Status]) -> Iterator[Telemetry]:
    """Tells what the configuration wants told, until the block is left; within it, the event loop must run.

    Args:
        status: the daemon's; called on the event loop.

    Raises:
        ConfigError: that needs packages that are missing, or a file that can't be used.
        OSError: or an address that can't be listened on.
    """
    if config.metrics is None and config.otlp is None:
        yield NO_TELEMETRY
        return
    collection = Collection(stage, status, Sensors())
    with ExitStack() as stack:
        if config.otlp is not None:
            with _needed("otlp"):
                from bise_daemon.telemetry.export import exporting
            stack.enter_context(exporting(config.otlp, config.state_folder, collection))
        if config.metrics is not None:
            with _needed("metrics"):
                from bise_daemon.telemetry.exposition import exposed
            stack.enter_context(exposed(config.metrics.listen, collection.collect))
        yield collection


@contextmanager
def _needed(setting: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"expected the package {error.name} for it, got none. Install it: pip install 'bise[telemetry]'"
        raise ConfigError([Problem(setting, message)]) from error
