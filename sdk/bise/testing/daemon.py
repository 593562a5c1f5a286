"""FakeDaemon: the whole gRPC surface of the daemon on a unix socket, answering from a script."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from types import TracebackType

import grpc
from grpc_health.v1 import health_pb2_grpc

from bise.address import parse
from bise.errors import BiseError
from bise.testing.script import Answer, Request
from bise.testing.servicers import FakeDevice, FakeHealth, FakeInference
from bise.types import Health, Status
from bise_proto.v1 import device_pb2_grpc, inference_pb2_grpc

# One thread for each call under way, watches included.
_MAX_CALLS = 32


class FakeDaemon:
    """A daemon in this process, with real gRPC on a unix socket of its own and a script for a model.

    Args:
        answers: what the requests get, in the order they come: a text, an `Answer`, or an error to raise, for
            instance `Refused("the queue is full", reason="QUEUE_FULL", retry_after_s=2.0)` or
            `OverBudget("too slow", numbers={"predicted_first_token_ms": 900, "first_token_ms": 300})`. A script that
            runs out fails the request. By default every request is greeted.
        status: what `status()` tells at first; `set_status` changes it.
        health: what health checks tell at first; `set_health` changes it, and those who watch are told.
        address: the `unix:///…` to listen on; by default a socket in a temporary folder of its own.

    Attributes:
        requests: the generations asked for, in the order they came.
    """

    def __init__(
        self,
        answers: Iterable[str | Answer | BiseError] | None = None,
        *,
        status: Status | None = None,
        health: Health = Health.SERVING,
        address: str | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bise-fake-")
        self.address = address or f"unix://{Path(self._folder.name) / 'bise.sock'}"
        self._device = FakeDevice(status or Status(model="fake", context_limit=2048, slots=1))
        self._health = FakeHealth(health)
        self._inference = FakeInference(repeat("Hello there") if answers is None else answers, self._device)
        self._server = grpc.server(ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="bise-fake"))
        inference_pb2_grpc.add_InferenceServicer_to_server(self._inference, self._server)
        device_pb2_grpc.add_DeviceServicer_to_server(self._device, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_insecure_port(parse(self.address).target)

    @property
    def requests(self) -> tuple[Request, ...]:
        """The generations asked for so far, in the order they came."""
        return tuple(self._inference.requests)

    def set_status(self, status: Status) -> None:
        """Changes what `status()` tells; those who watch see it at once."""
        self._device.status.set(status)

    def set_health(self, health: Health) -> None:
        """Changes what health checks tell; those who watch see it at once."""
        self._health.health.set(health)

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()

    def stop(self) -> None:
        """Ends all calls, and takes the socket away; harmless when repeated."""
        self._server.stop(None).wait()
        self._folder.cleanup()

    def __enter__(self) -> FakeDaemon:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
