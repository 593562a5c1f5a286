"""Metrics over HTTP, as Prometheus and OpenMetrics scrape them."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bise_daemon.config.address import TcpAddress
from bise_daemon.telemetry.metric import Distribution, Family, Instrument, prometheus_word

logger = logging.getLogger(__name__)

_FAMILIES = {
    Instrument.COUNTER: CounterMetricFamily,
    Instrument.GAUGE: GaugeMetricFamily,
    Instrument.HISTOGRAM: HistogramMetricFamily,
}
Told = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
# A scraper that neither asks nor reads for so long is gone.
_PATIENCE_S = 5.0


class _Scrape(Collector):
    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Told]:
        for family in self._collect():
            yield to_prometheus(family)

    def describe(self) -> Iterator[Told]:
        # Without this, the registry would collect once to learn the names, before there is anything to collect.
        return iter(())


def to_prometheus(family: Family) -> Told:
    """A family as prometheus-client writes it."""
    metric = family.metric
    told: Any = _FAMILIES[metric.instrument](
        metric.prometheus_family, metric.help, labels=[prometheus_word(label) for label in metric.labels]
    )
    for labels, value in family.points.items():
        if isinstance(value, Distribution):
            bounds = [*map(floatToGoString, value.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(value.counts), strict=True))
            told.add_metric(labels, buckets, value.sum)
        else:
            told.add_metric(labels, value)
    assert isinstance(told, Told)
    return told


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        logger.debug("a scrape was not answered", exc_info=True)


@contextmanager
def exposed(listen: TcpAddress, collect: Callable[[], Iterable[Family]]) -> Iterator[TcpAddress]:
    """Answers scrapes until the block is left, each on a thread of its own.

    Args:
        listen: port 0 is any free one.
        collect: called on these threads.

    Yields:
        The address in use.

    Raises:
        OSError: it can't be listened on.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(collect))
    handler = type("_Handler", (MetricsHandler,), {"registry": registry, "timeout": _PATIENCE_S})
    kind = type("_Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in listen.host else socket.AF_INET})
    try:
        server = kind((listen.host, listen.port), handler)
    except OSError as error:
        raise OSError(
            f"{listen.target}: can't listen for scrapes: {error.strerror}. Choose another address with --metrics."
        ) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, name="bise-metrics", daemon=True)
        thread.start()
        address = TcpAddress(listen.host, server.server_address[1])
        logger.info("metrics on http://%s/metrics", address.target)
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()
