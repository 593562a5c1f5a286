"""The daemon's life: listen, load, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from bise_daemon.activation import inherited_socket
from bise_daemon.admission import Capacity
from bise_daemon.answering import Answering
from bise_daemon.canary import CanaryError, sing
from bise_daemon.config.address import Address
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.live import LiveConfig
from bise_daemon.config.problem import ConfigError
from bise_daemon.engine.dispatcher import Dispatcher
from bise_daemon.engine.loop import Deliver, Engine, clock_ms
from bise_daemon.grammar.compiler import Compiler
from bise_daemon.http_door import http_door
from bise_daemon.listener import Listener
from bise_daemon.loader import Load, Loader
from bise_daemon.memory.governor import Governor, MemoryLevel, Rules
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Reading
from bise_daemon.models.model import Model, load_model
from bise_daemon.prefixes.revival import Revival
from bise_daemon.reception import Reception
from bise_daemon.scheduler.checked import CheckedScheduler
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.serving import Serving, Stage
from bise_daemon.status import DeviceService
from bise_daemon.systemd import ServiceManager
from bise_daemon.telemetry.telemetry import telling

logger = logging.getLogger(__name__)

# The context limit must follow the memory there is within a second; a reading takes a millisecond.
_GOVERN_INTERVAL_S = 0.25
# One step of two tokens; where it takes longer than that, nothing can be served.
_TEST_PATIENCE_S = 60.0
# Within the watchdog's time: a step that takes half of it is no reason to be ended.
_BEATS = 4
# Beyond what the drain may take: for the last calls, and for memory to be given back.
_ENDING_S = 15.0


class Server:
    """One daemon.

    Args:
        config: what to serve, and where.
        load: turns the config into a model; runs in a thread.
        read: the memory there is.
        manager: hears of each turn of the daemon's life.
        given: a socket that listens already at the config's address. Requests wait there while the model loads.
        reread: the config as it is written now.
    """

    def __init__(
        self,
        config: DaemonConfig,
        load: Load = load_model,
        read: Callable[[], Reading] = read_memory,
        manager: ServiceManager | None = None,
        given: socket.socket | None = None,
        reread: Callable[[], DaemonConfig] | None = None,
    ) -> None:
        self._config = LiveConfig(config)
        self._read = read
        self._manager = manager or ServiceManager()
        self._reread = reread or (lambda: config)
        self._loader = Loader(load, self._manager)
        self._stage = Stage(0 if given is None else config.slots + config.max_queue)
        self._given = given
        self._refused_config = ""
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self.listening: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        """The address in use, once there is one: a TCP port 0 is resolved."""
        self.http_address: Address | None = None
        """The same of the HTTP door, where there is one."""

    @property
    def left_behind(self) -> bool:
        """Whether a thread goes on that can't be ended; see `Loader`."""
        return self._loader.left_behind

    def stop(self) -> None:
        """Begins the drain; `run` returns when it is over. Called again, it ends the drain at once."""
        (self._hurrying if self._stopping.is_set() else self._stopping).set()

    async def run(self) -> None:
        """Serves until `stop`, or until the engine fails, or memory can't be read any more.

        Raises:
            BundleError, SessionError, LoadingStalledError, CanaryError: the bundle can't be served.
            AddressInUseError, OSError: nor the address.
            ConfigError: HTTP or telemetry needs packages that are missing.
            BaseException: what ended the engine, or the reading of memory.
        """
        config, device = self._config.now, DeviceService(self._stage)
        with telling(config, self._stage, device.status) as telemetry:
            answering = Answering(self._stage, self._config, telemetry)
            listener = Listener(self._config, answering, device, self._given)
            http = http_door(config, self._stage, answering, device)
            async with listener.listening() as address, http as self.http_address:
                self.listening.set_result(address)
                logger.info("listening on %s", address)
                await listener.report(serving=False)
                try:
                    if (model := await self._loader.load(config, self._stopping)) is not None:
                        await self._serve(model, listener)
                finally:
                    self._manager.stopping("Stopping", _ENDING_S)

    def reload(self) -> None:
        """Reads the config again and takes over what can change now; if anything else differs, all stays as it was."""
        serving = self._stage.current
        if serving is None or self._stage.draining:
            logger.warning("not reloaded: the daemon does not serve just now")
            return
        self._manager.reloading()
        try:
            changed = self._config.replace(self._reread())
        except ConfigError as error:
            self._refused_config = f"; the new configuration is refused: {error}"
            logger.error("the configuration stays as it was: %s", error)
        else:
            self._refused_config = ""
            set_log_level(self._config.now)
            told = ", ".join(f"{name} {value}" for name, value in changed.items())
            logger.info("the configuration was read again: %s", told or "nothing changed")
        self._manager.ready(self._summary(serving.model, serving.reception.level))

    async def _serve(self, model: Model, listener: Listener) -> None:
        def make_engine(deliver: Deliver) -> Engine:
            make_scheduler = CheckedScheduler if self._config.now.check_integrity else Scheduler
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
            model.limits.slots + self._config.now.max_queue,
        )
        reception = Reception(capacity, dispatcher, model.costs, clock_ms)
        engine.start()
        formats = Compiler(model.tokenizer)
        # Its first verdict is there before the first request can be.
        revival = Revival(model.prefixes, model.store, model.cache, engine)
        governing = asyncio.create_task(self._govern(model, reception, revival))
        feeding = asyncio.create_task(self._feed_watchdog(engine, reception.longest_step_ms))
        try:
            await self._test(model, dispatcher)
            self._stage.serve(Serving(model, dispatcher, reception, formats))
            await listener.report(serving=True)
            self._manager.ready(self._summary(model, reception.level))
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
            await listener.drain()
            if not engine.ended.done():
                await self._drain(dispatcher)
        finally:
            governing.cancel()
            feeding.cancel()
            await formats.close()
            await asyncio.to_thread(engine.stop)
        engine.ended.result()
        with suppress(asyncio.CancelledError):
            await governing

    async def _test(self, model: Model, dispatcher: Dispatcher) -> None:
        """Has the model generate a token, as it will for others: whoever is told that it serves can rely on it."""
        self._manager.loading(f"Loading {model.bundle.name}: asking it for a token", _TEST_PATIENCE_S)
        try:
            took_ms = await asyncio.wait_for(sing(model, dispatcher), _TEST_PATIENCE_S)
        except TimeoutError:
            raise CanaryError(f"expected a token of the model within {_TEST_PATIENCE_S:.0f} s, got none") from None
        logger.info("%s answered its self-test in %.0f ms", model.bundle.name, took_ms)

    async def _feed_watchdog(self, engine: Engine, longest_step_ms: float) -> None:
        """Has the engine tell the manager that it is alive: the question comes by the clock, the answer does not."""
        if (watchdog_s := self._manager.watchdog_s) is None:
            return
        if watchdog_s * 1e3 < _BEATS * longest_step_ms:
            logger.warning(
                "the watchdog's time, %g s, is short for steps of %.0f ms. Raise WatchdogSec.",
                watchdog_s,
                longest_step_ms,
            )
        while True:
            engine.beat(self._manager.alive)
            await asyncio.sleep(watchdog_s / _BEATS)

    def _summary(self, model: Model, level: MemoryLevel) -> str:
        """The daemon's state in a line for people."""
        what = f"{model.bundle.name} {model.bundle.version}".rstrip()
        return f"Serving {what} on {self._config.now.listen}; memory {level.name}{self._refused_config}"

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
                if self._stage.current is not None:
                    self._manager.status(self._summary(model, level))
            if level is MemoryLevel.NORMAL:
                revival.go_on(verdict.kv_budget_tokens)
            await asyncio.sleep(_GOVERN_INTERVAL_S)

    async def _drain(self, dispatcher: Dispatcher) -> None:
        logger.info("draining: %d requests open", dispatcher.open_requests)
        timeout_s = self._config.now.drain_timeout_s
        self._manager.stopping(f"Draining: {dispatcher.open_requests} requests open", timeout_s + _ENDING_S)
        await _first(dispatcher.wait_idle(), self._hurrying.wait(), timeout_s=timeout_s)
        if dispatcher.open_requests:
            logger.warning("the drain ended with %d requests open; they fail with DRAINING", dispatcher.open_requests)


async def _first(*waits: Awaitable[Any], timeout_s: float | None = None) -> None:
    """Returns when one of several waits is over, or after `timeout_s`; the others are given up."""
    futures = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for future in futures:
        future.cancel()


def set_log_level(config: DaemonConfig) -> None:
    """Has the daemon's own loggers say as much as the config wants."""
    logging.getLogger("bise_daemon").setLevel(config.log_level.upper())


async def serve(config: DaemonConfig, reread: Callable[[], DaemonConfig]) -> None:
    """Runs a daemon as the process that it is in: until SIGTERM or SIGINT, then drains it.

    Ends the process itself where a load can't be ended.

    Args:
        reread: the config as it is written when SIGHUP comes.

    Raises:
        ActivationError, ManagerError: what systemd handed over can't be used.
        BaseException: see `Server.run`.
    """
    set_log_level(config)
    given = inherited_socket(config.listen)
    server = Server(config, manager=ServiceManager.from_environment(), given=given, reread=reread)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    try:
        await server.run()
    finally:
        if server.left_behind:
            error = sys.exception()
            logger.log(logging.ERROR if error else logging.INFO, "ended while loading: %s", error or "asked to stop")
            logging.shutdown()
            os._exit(error is not None)
