"""What is told goes to a receiver; while nobody takes it, it waits on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bise_daemon.telemetry.metric import Family, Instrument, Metric
from bise_daemon.telemetry.receiver import Fate, Receiver
from bise_daemon.telemetry.spool import Batch, Spool

logger = logging.getLogger(__name__)

# What waited for days is not sent in one go: a device has better to do, and so has who receives for a fleet.
_MOST_AT_ONCE = 100
# Whoever stops the daemon does not wait for a network.
_STOP_PATIENCE_S = 2.0

WAITING = Metric("bise.otlp.waiting", Instrument.GAUGE, "By", "Telemetry that waits on disk for its receiver.")
BATCHES = Metric(
    "bise.otlp.batches",
    Instrument.COUNTER,
    "{batch}",
    "Batches of telemetry, by what became of them: delivered, refused by the receiver, or dropped for want of room.",
    ("outcome",),
)
FORWARDING_METRICS = (WAITING, BATCHES)


class Forwarding:
    """Belongs to one thread, but for `families`.

    Args:
        receiver: takes batches.
        spool: where they wait.
    """

    def __init__(self, receiver: Receiver, spool: Spool) -> None:
        self._receiver = receiver
        self._spool = spool
        self._delivered = 0
        self._refused = 0
        self._lost = 0
        self._away = False

    def send(self, *batches: Batch) -> None:
        """Delivers batches, and what waits before them as far as that goes; the rest waits."""
        arrears = self._deliver_waiting()
        for batch in batches:
            if arrears or not self._deliver(batch):
                arrears = True
                self._keep(batch)

    def families(self) -> Iterator[Family]:
        """What became of batches so far."""
        yield Family(WAITING, {(): self._spool.size_bytes})
        outcomes = {"delivered": self._delivered, "refused": self._refused, "dropped": self._spool.dropped + self._lost}
        yield Family(BATCHES, {(outcome,): count for outcome, count in outcomes.items()})

    def _deliver_waiting(self) -> bool:
        """Whether something waits still."""
        for _ in range(_MOST_AT_ONCE):
            if (batch := self._spool.oldest()) is None:
                return False
            if not self._deliver(batch):
                return True
            self._spool.remove_oldest()
        return True

    def _deliver(self, batch: Batch) -> bool:
        """Whether a batch needs no more care."""
        fate = self._receiver.take(batch)
        self._delivered += fate is Fate.DELIVERED
        self._refused += fate is Fate.REFUSED
        if (away := fate is Fate.WAITS) is not self._away:
            self._away = away
            logger.info("telemetry waits on disk: its receiver is away" if away else "telemetry's receiver is there")
        return not away

    def _keep(self, batch: Batch) -> None:
        try:
            self._spool.add(batch)
        except OSError as error:
            self._lost += 1
            logger.warning("telemetry is lost: the disk does not take it: %s", error)


@contextmanager
def each_interval(act: Callable[[], None], interval_s: float) -> Iterator[None]:
    """Acts on a thread of its own every so often until the block is left; what goes wrong is logged."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(interval_s):
            try:
                act()
            except Exception:
                logger.exception("telemetry was not sent this time")

    thread = threading.Thread(target=go_on, name="bise-otlp", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_STOP_PATIENCE_S)
