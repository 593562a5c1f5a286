"""What fits: the reserve that stays free, the tokens the rest can hold, and whether a bundle belongs on this device."""

from __future__ import annotations

from bise_daemon.memory.reading import Reading
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

# At least what steps need beside the cache: 512 prompt tokens in one step took SmolLM2 65 MiB. At most what others can
# take between two readings: two cores touch 2 GiB/s each, 1 GiB in 250 ms.
_RESERVE_LEAST_BYTES = 256 << 20
_RESERVE_MOST_BYTES = 1 << 30

# What a load takes beside page cache: CPU kernels repack weights into private memory, some with more bytes than the
# file has. Measured on onnxruntime 1.31.1 (private growth over weight files, MiB): SmolLM2 int4 114/97, int8 177/151,
# fp32 519/515, a 24B int4 12,780/11,920. The line lies 1 to 20 % above each.
_LOAD_PERCENT = 108
_LOAD_BYTES = 32 << 20


def reserve_bytes(limit_bytes: int) -> int:
    """Memory that must stay available, for steps and for others: a tenth of the limit, within bounds."""
    return min(max(limit_bytes // 10, _RESERVE_LEAST_BYTES), _RESERVE_MOST_BYTES)


def kv_budget_tokens(usable_bytes: int, bytes_per_token: int, most_tokens: int) -> int:
    """Tokens of cache that fit, at most `most_tokens`; 0 when not even one does.

    Args:
        usable_bytes: for keys and values alone, the reserve taken off; may be negative.
        bytes_per_token: of the cache.
        most_tokens: what all slots together could hold at all.
    """
    return max(0, min(most_tokens, usable_bytes // bytes_per_token))


def check_load(bundle: bundle_pb2.Bundle, reading: Reading, needed_tokens: int) -> None:
    """Refuses a bundle that can't fit, before a byte of its weights is read.

    Args:
        bundle: its manifest; sizes are taken at their word, so this may come before they are proved.
        reading: taken now.
        needed_tokens: of cache, without which serving makes no sense.

    Raises:
        BundleError: it can't fit; says how much it needs, how much there is, and the largest context that would fit.
    """
    weight_bytes = sum(file.size_bytes for file in bundle.files if file.path in bundle.graph.weight_files)
    _check(bundle, reading, needed_tokens, weight_bytes * _LOAD_PERCENT // 100 + _LOAD_BYTES)


def check_fit(bundle: bundle_pb2.Bundle, reading: Reading, needed_tokens: int, most_tokens: int) -> int:
    """The tokens of cache that fit once the bundle is loaded, at most `most_tokens`.

    The same number as the governor's first, on the same reading and in calm.

    Args:
        bundle: its manifest.
        reading: taken after the load.
        needed_tokens: without which serving makes no sense.
        most_tokens: what all slots together could hold at all.

    Raises:
        BundleError: fewer than needed fit; as for `check_load`.
    """
    return min(most_tokens, _check(bundle, reading, needed_tokens, 0))


def _check(bundle: bundle_pb2.Bundle, reading: Reading, needed_tokens: int, load_bytes: int) -> int:
    """Tokens that fit beside the reserve and what is still to be loaded."""
    bytes_per_token = bundle.kv_cache.bytes_per_token
    reserve = reserve_bytes(reading.limit_bytes)
    usable_bytes = reading.available_bytes - reserve - load_bytes
    tokens = kv_budget_tokens(usable_bytes, bytes_per_token, bundle.graph.context)
    if usable_bytes < needed_tokens * bytes_per_token:
        demands = {
            "to load the weights": load_bytes,
            f"for at least {needed_tokens} tokens of {bytes_per_token} bytes": needed_tokens * bytes_per_token,
            "that stay free": reserve,
        }
        parts = ", ".join(f"{_mib(size_bytes)} MiB {what}" for what, size_bytes in demands.items() if size_bytes)
        raise BundleError(
            f"{bundle.name}: expected {_mib(sum(demands.values()))} MiB of available memory ({parts}), "
            f"got {reading.available_bytes >> 20} MiB of {reading.limit_bytes >> 20}: the largest context that fits is "
            f"{tokens} tokens. Free memory, or export it smaller."
        )
    return max(0, usable_bytes // bytes_per_token)


def _mib(size_bytes: int) -> int:
    """Rounded up: what is asked for must be enough."""
    return -(-size_bytes >> 20)
