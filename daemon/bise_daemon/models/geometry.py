"""The sizes a manifest names: bounded before anything is allocated by them."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from bise_proto.bundle import MANIFEST, BundleError
from bise_proto.v1 import bundle_pb2

_KV_BYTES = {"int8": 1, "float16": 2, "float32": 4}
_LIMITS = {
    "architecture.num_layers": 1 << 10,
    "architecture.num_kv_heads": 1 << 10,
    "architecture.head_dim": 1 << 10,
    "architecture.vocab_size": 1 << 21,
    "graph.context": 1 << 24,
}


def check_geometry(folder: Path, bundle: bundle_pb2.Bundle) -> None:
    """Proves that the sizes the daemon allocates by are within bounds and agree with each other.

    Raises:
        BundleError: one is not, naming it.
    """
    for name, limit in _LIMITS.items():
        size = attrgetter(name)(bundle)
        if not 1 <= size <= limit:
            raise _error(folder, name, f"1 to {limit}", size)
    if (item_bytes := _KV_BYTES.get(bundle.kv_cache.dtype)) is None:
        raise _error(folder, "kv_cache.dtype", f"one of {', '.join(_KV_BYTES)}", repr(bundle.kv_cache.dtype[:40]))
    architecture = bundle.architecture
    bytes_per_token = 2 * architecture.num_layers * architecture.num_kv_heads * architecture.head_dim * item_bytes
    if bundle.kv_cache.bytes_per_token != bytes_per_token:
        raise _error(folder, "kv_cache.bytes_per_token", str(bytes_per_token), bundle.kv_cache.bytes_per_token)


def _error(folder: Path, name: str, expected: str, got: object) -> BundleError:
    return BundleError(f"{folder / MANIFEST}: {name}: expected {expected}, got {got}. Export the model again.")
