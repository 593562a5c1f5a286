"""Export to an OpenTelemetry receiver, every so often."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from google.protobuf.message import Message

from bise_daemon.config.otlp import OtlpConfig
from bise_daemon.config.problem import ConfigError, Problem
from bise_daemon.telemetry import otlp
from bise_daemon.telemetry.forwarding import Forwarding, each_interval
from bise_daemon.telemetry.headers import read_headers
from bise_daemon.telemetry.receiver import Receiver
from bise_daemon.telemetry.spool import Batch, Spool
from bise_daemon.telemetry.telemetry import Collection
from bise_daemon.telemetry.traces import Traces


@contextmanager
def exporting(config: OtlpConfig, state_folder: Path, collection: Collection) -> Iterator[None]:
    """Sends what is collected until the block is left; what nobody takes waits below `state_folder`.

    Raises:
        ConfigError: the file of headers can't be used.
    """
    try:
        headers = {} if config.headers_file is None else read_headers(config.headers_file)
    except (OSError, ValueError) as error:
        raise ConfigError([Problem("otlp.headers_file", str(error))]) from error
    forwarding = Forwarding(Receiver(config.endpoint, headers), Spool(state_folder / "telemetry", config.spool_bytes))
    collection.others.append(forwarding.families)
    traces = collection.traces = Traces()
    began_ns = time.time_ns()
    who = otlp.resource({"service.name": "bise", "service.version": version("bise"), "host.name": socket.gethostname()})
    by = otlp.scope(version("bise"))

    def send() -> None:
        told = otlp.to_metrics(collection.collect(), who, by, began_ns, time.time_ns())
        batches = [_batch("metrics", told)]
        if spans := traces.take():
            batches.append(_batch("traces", otlp.to_traces(spans, who, by)))
        forwarding.send(*batches)

    with each_interval(send, config.interval_s):
        yield


def _batch(signal: str, request: Message) -> Batch:
    return Batch(signal, gzip.compress(request.SerializeToString(), mtime=0))
