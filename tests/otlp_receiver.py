"""A receiver of OTLP over HTTP inside a test: it takes what parses, and answers as it is told."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_KINDS = {"/v1/metrics": ExportMetricsServiceRequest, "/v1/traces": ExportTraceServiceRequest}


class OtlpReceiver(TCPServer):
    """Attributes:
    taken: the requests it answered 200 to, in order.
    headers: of the latest.
    came: released for each of them.
    status, content_type, body: its answer to what parses.
    """

    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.taken: list[Any] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        self.content_type = "application/x-protobuf"
        self.body = ExportMetricsServiceResponse().SerializeToString()
        self.came = threading.Semaphore(0)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: OtlpReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Encoding"] == "gzip"
        assert self.headers["Content-Type"] == "application/x-protobuf"
        request = _KINDS[self.path].FromString(gzip.decompress(body))
        self.server.headers = dict(self.headers)
        if self.server.status == 200:
            self.server.taken.append(request)
            self.server.came.release()
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiving(port: int = 0) -> Iterator[OtlpReceiver]:
    """A receiver at work; port 0 is any free one."""
    with OtlpReceiver(port) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()
