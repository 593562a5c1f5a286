"""Whether a daemon serves, as its own health says."""

from __future__ import annotations

import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bise_daemon.config.address import Address

_PAUSE_S = 0.1
# By default gRPC waits a second after the first refused connection, and longer after others.
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


def wait_until_serving(address: Address, until_s: float) -> str:
    """Waits until the daemon says that it serves.

    Args:
        until_s: how long, on the monotonic clock.

    Returns:
        What it said last when it did not; empty when it serves.
    """
    said = "nobody listened"
    with grpc.insecure_channel(address.target, options=_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while (left_s := until_s - time.monotonic()) > 0:
            try:
                for health in stub.Watch(health_pb2.HealthCheckRequest(), timeout=left_s, wait_for_ready=True):
                    said = f"its health was {health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)}"
                    if health.status == health_pb2.HealthCheckResponse.SERVING:
                        return ""
            except grpc.RpcError:
                # Gone, or not there yet; a new one may come.
                time.sleep(min(_PAUSE_S, left_s))
    return said
