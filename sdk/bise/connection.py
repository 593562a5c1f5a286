"""One gRPC channel to the daemon, and the two kinds of call made over it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2_grpc

from bise.address import Address
from bise.errors import BiseError, Cancelled, DaemonError, DeadlineExceeded
from bise.rpc_error import from_rpc
from bise_proto.v1 import device_pb2_grpc, inference_pb2_grpc

T = TypeVar("T")
R = TypeVar("R")

_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # the daemon is near: never ask a proxy for it
    ("grpc.use_local_subchannel_pool", 1),  # a new client does not wait out an old one's reconnect backoff
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # a restarted daemon is found again within a second
    ("grpc.max_receive_message_length", 16 << 20),
)


class Connection:
    """A channel, opened at the first call inside the event loop that makes it, and its service stubs."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def open(self) -> None:
        """Opens the channel if it is not open; nothing is sent yet.

        Raises:
            RuntimeError: closed already, or opened in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the client is closed: make a new one")
        if self._loop is None:
            self._loop = loop
            self._channel = grpc.aio.insecure_channel(self.address.target, options=_CHANNEL_OPTIONS)
            self.inference: Any = inference_pb2_grpc.InferenceStub(self._channel)
            self.device: Any = device_pb2_grpc.DeviceStub(self._channel)
            self.health: Any = health_pb2_grpc.HealthStub(self._channel)
        elif self._loop is not loop:
            raise RuntimeError("an AsyncClient belongs to the event loop of its first call: make one in each loop")

    async def close(self) -> None:
        """Cancels what runs and closes the channel; harmless when repeated."""
        self._closed = True
        if self._loop is not None:
            await self._channel.close(None)

    async def unary(self, call: Callable[[], Awaitable[T]]) -> T:
        """The response of one unary call.

        Raises:
            BiseError: the call failed.
        """
        self.open()
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.address) from error
        except asyncio.CancelledError:
            raise_if_task_cancelled()
            raise Cancelled("the client was closed while the call ran") from None


class ServerStream(Generic[T]):
    """One server-streaming call, opened at its first read."""

    def __init__(self, connection: Connection, start: Callable[[], Any]) -> None:
        self._connection = connection
        self._start = start
        self._call: Any = None
        self._cancelled = False

    async def read(self, timeout_s: float | None = None) -> T | None:
        """The next message, or None at the end.

        Raises:
            BiseError: the call failed, was cancelled, or sent nothing for `timeout_s` seconds.
        """
        if self._cancelled:
            raise self._cancellation()
        if self._call is None:
            self._connection.open()
            self._call = self._start()
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._connection.address) from error
        except asyncio.CancelledError:
            raise_if_task_cancelled()
            raise self._cancellation() from None
        except TimeoutError:
            raise DeadlineExceeded(
                f"the daemon at {self._connection.address.url} sent nothing for {timeout_s:g} s. See `bise health`."
            ) from None
        return None if message is grpc.aio.EOF else cast(T, message)  # type: ignore[attr-defined]

    def cancel(self) -> None:
        """Tells the daemon to stop; harmless when the call is over. Who reads meanwhile gets Cancelled."""
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    def _cancellation(self) -> BiseError:
        return Cancelled("the answer was cancelled: its stream or its client was closed while it was read")


class DuplexStream(ServerStream[T], Generic[R, T]):
    """One call in which both sides send, opened at its first write."""

    def __init__(self, connection: Connection, start: Callable[[], Any]) -> None:
        super().__init__(connection, start)
        self._writing = asyncio.Lock()

    async def write(self, request: R) -> None:
        """Sends a message.

        Raises:
            BiseError: the call failed, or was cancelled.
        """
        if self._cancelled:
            raise self._cancellation()
        if self._call is None:
            self._connection.open()
            self._call = self._start()
        try:
            async with self._writing:
                await self._call.write(request)
        except asyncio.CancelledError:
            raise_if_task_cancelled()
            raise self._cancellation() from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            # Reading tells what the call ended with, unless gRPC forgot it because that came while something was sent.
            await self.read()
            raise DaemonError("expected the daemon to listen, but it ended the call") from error


def raise_if_task_cancelled() -> None:
    """Tells the caller's own cancellation, which goes on, from that of the RPC, which becomes an error."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
