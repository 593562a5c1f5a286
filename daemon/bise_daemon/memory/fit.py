"""How many tokens of cache the memory at hand can hold."""

from __future__ import annotations

# Left to the rest of the system, and to what a step needs beside the cache (activations, logits).
_RESERVE_BYTES = 256 << 20
_RESERVE_SHARE = 0.1


def kv_budget_tokens(available_bytes: int, bytes_per_token: int, most_tokens: int) -> int:
    """Tokens of cache that fit, at most `most_tokens`; 0 when not even one does.

    Args:
        available_bytes: once the model is loaded.
        bytes_per_token: of the cache.
        most_tokens: what all slots together could hold at all.
    """
    usable_bytes = available_bytes - max(_RESERVE_BYTES, int(available_bytes * _RESERVE_SHARE))
    return max(0, min(most_tokens, usable_bytes // bytes_per_token))
