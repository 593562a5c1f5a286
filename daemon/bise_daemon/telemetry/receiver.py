"""A receiver of OTLP over HTTP, as the specification asks clients to treat it."""

from __future__ import annotations

import http.client
import logging
import ssl
from collections.abc import Mapping
from contextlib import closing
from enum import Enum

from bise_daemon.config.otlp import Endpoint
from bise_daemon.telemetry.spool import Batch

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_MAX_ANSWER_BYTES = 64 << 10
# Of the client's errors, those that are none: too slow, too many.
_LATER = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)
_PROTOBUF = "application/x-protobuf"


class Fate(Enum):
    """What became of a batch."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """For good: sent again it would be refused again."""
    WAITS = "waits"
    """Nobody took it; later somebody may."""


class Receiver:
    """Takes batches, one connection for each. Redirects are not followed, and no proxy is asked.

    Args:
        headers: sent with each batch; they may be secret, and are told nobody else.
    """

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._headers = {**headers, "Content-Type": _PROTOBUF, "Content-Encoding": "gzip", "User-Agent": "bise"}
        self._context = ssl.create_default_context() if endpoint.secure else None

    def take(self, batch: Batch) -> Fate:
        """Sends a batch."""
        endpoint = self._endpoint
        try:
            with closing(self._connection()) as connection:
                path = f"{endpoint.path}/v1/{batch.signal}"
                connection.request("POST", path, batch.body, self._headers)
                answer = connection.getresponse()
                return self._fate(answer.status, answer.headers.get_content_type(), answer.read(_MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException) as error:
            logger.debug("%s does not take telemetry: %r", endpoint, error)
            return Fate.WAITS

    def _connection(self) -> http.client.HTTPConnection:
        endpoint = self._endpoint
        if self._context is None:
            return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_S, context=self._context)

    def _fate(self, status: int, content_type: str, body: bytes) -> Fate:
        # A page at a hotel's or a garage's network answers 200 to everything, and redirects to itself.
        if status == http.client.OK and (content_type == _PROTOBUF or not body):
            return Fate.DELIVERED
        if 400 <= status < 500 and status not in _LATER:
            logger.warning("%s refused telemetry with status %d; it is dropped", self._endpoint, status)
            return Fate.REFUSED
        logger.debug("%s does not take telemetry: status %d, %s", self._endpoint, status, content_type)
        return Fate.WAITS
