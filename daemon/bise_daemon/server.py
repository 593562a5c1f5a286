"""The daemon's life: listen, load, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bise_daemon.admission import Capacity
from bise_daemon.answering import Answering
from bise_daemon.config.address import Address, TcpAddress
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.engine.dispatcher import Dispatcher
from bise_daemon.engine.loop import Deliver, Engine, clock_ms
from bise_daemon.memory.governor import Governor, MemoryLevel, Rules
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Reading
from bise_daemon.models.model import Model, load_model
from bise_daemon.prefixes.revival import Revival
from bise_daemon.reception import Reception
from bise_daemon.scheduler.checked import CheckedScheduler
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.service import InferenceService
from bise_daemon.serving import Serving, Stage
from bise_daemon.socket_lock import own_socket
from bise_daemon.status import DeviceService
from bise_daemon.telemetry.telemetry import telling
from bise_proto.v1 import device_pb2, device_pb2_grpc, inference_pb2, inference_pb2_grpc

logger = logging.getLogger(__name__)

_SERVICES = tuple(
    proto.DESCRIPTOR.services_by_name[name].full_name
    for proto, name in ((inference_pb2, "Inference"), (device_pb2, "Device"))
)
# The transport's own limit is looser than ours, so that a message a little too large gets our explained refusal.
_TRANSPORT_SLACK = 4
# The context limit must follow the memory there is within a second; a reading takes a millisecond.
_GOVERN_INTERVAL_S = 0.25
# Time for calls to notice that their request was aborted.
_STOP_GRACE_S = 2.0


class Server:
    """One daemon.

    Args:
        config: what to serve, and where.
        load: turns the config into a model; runs in a thread.
        read: the memory there is.
    """

    def __init__(
        self,
        config: DaemonConfig,
        load: Callable[[DaemonConfig], Model] = load_model,
        read: Callable[[], Reading] = read_memory,
    ) -> None:
        self._config = config
        self._load = load
        self._read = read
        self._stage = Stage()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self.listening: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        """The address in use, once there is one: a TCP port 0 is resolved."""

    def stop(self) -> None:
        """Begins the drain; `run` returns when it is over. Called again, it ends the drain at once."""
        (self._hurrying if self._stopping.is_set() else self._stopping).set()

    async def run(self) -> None:
        """Serves until `stop`, or until the engine fails, or memory can't be read any more.

        Raises:
            BundleError, SessionError: the bundle can't be served.
            AddressInUseError, OSError: nor the address.
            ConfigError: telemetry needs packages that are missing.
            BaseException: what ended the engine, or the reading of memory.
        """
        device = DeviceService(self._stage)
        with own_socket(self._config.listen), telling(self._config, self._stage, device.status) as telemetry:
            grpc_server = await self._listen(Answering(self._stage, self._config, telemetry), device)
            try:
                await self._report(health_pb2.HealthCheckResponse.NOT_SERVING)
                model = await asyncio.to_thread(self._load, self._config)
                if not self._stopping.is_set():
                    await self._serve(model)
            finally:
                await grpc_server.stop(_STOP_GRACE_S)

    async def _listen(self, answering: Answering, device: DeviceService) -> grpc.aio.Server:
        config = self._config
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes * _TRANSPORT_SLACK),
                # Two daemons on one port would share its callers at random.
                ("grpc.so_reuseport", 0),
            ]
        )
        inference_pb2_grpc.add_InferenceServicer_to_server(InferenceService(answering), server)
        device_pb2_grpc.add_DeviceServicer_to_server(device, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            port = server.add_insecure_port(config.listen.target)
        except RuntimeError as error:
            raise OSError(f"{config.listen}: can't listen: {error}. Choose another address with --listen.") from error
        await server.start()
        address = config.listen
        if isinstance(address, TcpAddress):
            address = TcpAddress(address.host, port)
        self.listening.set_result(address)
        logger.info("listening on %s", address)
        return server

    async def _serve(self, model: Model) -> None:
        def make_engine(deliver: Deliver) -> Engine:
            make_scheduler = CheckedScheduler if self._config.check_integrity else Scheduler
            scheduler = make_scheduler(model.limits, model.costs)
            for prefix in model.prefixes:
                scheduler.pin(prefix.slot, prefix.tokens)
            return Engine(scheduler, model.session, model.cache, model.costs, deliver)

        dispatcher = Dispatcher(make_engine)
        engine = dispatcher.engine
        capacity = Capacity(
            model.limits,
            model.limits.context_tokens,
            model.bundle.architecture.vocab_size,
            model.limits.slots + self._config.max_queue,
        )
        reception = Reception(capacity, dispatcher, model.costs, clock_ms)
        engine.start()
        # Its first verdict is there before the first request can be.
        revival = Revival(model.prefixes, model.store, model.cache, engine)
        governing = asyncio.create_task(self._govern(model, reception, revival))
        try:
            self._stage.serve(Serving(model, dispatcher, reception))
            await self._report(health_pb2.HealthCheckResponse.SERVING)
            logger.info(
                "serving %s: %s, loaded in %.0f ms (%.0f ms of it measuring steps), context limit %d tokens, %d slots",
                model.bundle.name,
                "specialised for this device" if model.specialised else "weights repacked",
                model.load_ms,
                model.calibration_ms,
                reception.capacity.context_limit,
                model.limits.slots,
            )
            engine_ended = asyncio.shield(asyncio.wrap_future(engine.ended))
            await _first(self._stopping.wait(), engine_ended, asyncio.shield(governing))
            self._stage.drain()
            await self._health.enter_graceful_shutdown()
            if not engine.ended.done():
                await self._drain(dispatcher)
        finally:
            governing.cancel()
            await asyncio.to_thread(engine.stop)
        engine.ended.result()
        with suppress(asyncio.CancelledError):
            await governing

    async def _govern(self, model: Model, reception: Reception, revival: Revival) -> None:
        """Follows the memory there is for as long as the model is served."""
        rules = Rules(
            model.cache.shape.bytes_per_token,
            model.limits.all_slots * model.limits.context_tokens,
            model.limits.context_tokens,
        )
        governor = Governor(rules)
        level = reception.level
        while True:
            committed_bytes = model.cache.committed_bytes()
            verdict = governor.update(self._read(), clock_ms(), committed_bytes)
            reception.govern(verdict)
            if verdict.level is not level:
                level = verdict.level
                logger.warning("memory is %s (%s)", level.name, verdict.cause or "recovered")
            if level is MemoryLevel.NORMAL:
                revival.go_on(verdict.kv_budget_tokens)
            await asyncio.sleep(_GOVERN_INTERVAL_S)

    async def _drain(self, dispatcher: Dispatcher) -> None:
        logger.info("draining: %d requests open", dispatcher.open_requests)
        await _first(dispatcher.wait_idle(), self._hurrying.wait(), timeout_s=self._config.drain_timeout_s)
        if dispatcher.open_requests:
            logger.warning("the drain ended with %d requests open; they fail with DRAINING", dispatcher.open_requests)

    async def _report(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *_SERVICES):
            await self._health.set(service, status)


async def _first(*waits: Awaitable[Any], timeout_s: float | None = None) -> None:
    """Returns when one of several waits is over, or after `timeout_s`; the others are given up."""
    futures = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for future in futures:
        future.cancel()


async def serve(config: DaemonConfig) -> None:
    """Runs a daemon until SIGTERM or SIGINT, then drains it."""
    server = Server(config)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, server.stop)
    await server.run()
