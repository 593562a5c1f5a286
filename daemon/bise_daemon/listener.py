"""gRPC's side of the daemon: services and health, on an address of its own or behind a socket of systemd's."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bise_daemon.activation import Relay, private_address
from bise_daemon.answering import Answering
from bise_daemon.config.address import Address, TcpAddress
from bise_daemon.config.live import LiveConfig
from bise_daemon.dialogue.held import HeldDialogues
from bise_daemon.service import InferenceService
from bise_daemon.socket_lock import own_socket
from bise_daemon.status import DeviceService
from bise_proto.v1 import device_pb2, device_pb2_grpc, inference_pb2, inference_pb2_grpc

logger = logging.getLogger(__name__)

_SERVICES = tuple(
    proto.DESCRIPTOR.services_by_name[name].full_name
    for proto, name in ((inference_pb2, "Inference"), (device_pb2, "Device"))
)
# The transport's own limit is looser than ours, so that a message a little too large gets our explained refusal.
_TRANSPORT_SLACK = 4
# Time for calls to notice that their request was aborted.
_STOP_GRACE_S = 2.0


class Listener:
    """Takes calls.

    Args:
        config: says where, unless `given` does.
        answering: answers calls.
        device: tells of the daemon itself.
        given: a socket that listens already.
    """

    def __init__(
        self, config: LiveConfig, answering: Answering, device: DeviceService, given: socket.socket | None
    ) -> None:
        self._config = config
        self._answering = answering
        self._device = device
        self._given = given
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
        self._relays: list[Relay] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Address]:
        """Listens within the block; gives the address in use, where a TCP port 0 is resolved.

        Raises:
            AddressInUseError, OSError: it can't listen there.
        """
        given, wanted = self._given, self._config.now.listen
        async with AsyncExitStack() as stack:
            inner = None if given is None else stack.enter_context(private_address())
            address = inner or wanted
            stack.enter_context(own_socket(address))
            server = self._make()
            try:
                port = server.add_insecure_port(address.target)
            except RuntimeError as error:
                raise OSError(f"{address}: can't listen: {error}. Choose another address with --listen.") from error
            await server.start()
            try:
                if given is not None and inner is not None:
                    relay = Relay(given, inner)
                    await relay.start()
                    stack.push_async_callback(relay.stop)
                    self._relays.append(relay)
                elif isinstance(wanted, TcpAddress):
                    wanted = TcpAddress(wanted.host, port)
                yield wanted
            finally:
                await server.stop(_STOP_GRACE_S)

    def _make(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._config.now.max_message_bytes * _TRANSPORT_SLACK),
                # Two daemons on one port would share its callers at random.
                ("grpc.so_reuseport", 0),
            ]
        )
        service = InferenceService(self._answering, HeldDialogues(self._config.now.max_message_bytes))
        inference_pb2_grpc.add_InferenceServicer_to_server(service, server)
        device_pb2_grpc.add_DeviceServicer_to_server(self._device, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    async def report(self, *, serving: bool) -> None:
        """What grpc.health.v1 says."""
        response = health_pb2.HealthCheckResponse
        for service in ("", *_SERVICES):
            await self._health.set(service, response.SERVING if serving else response.NOT_SERVING)

    async def drain(self) -> None:
        """Takes no new connections, which wait for the next daemon; health says that no other calls are wanted."""
        for relay in self._relays:
            relay.rest()
        await self._health.enter_graceful_shutdown()
