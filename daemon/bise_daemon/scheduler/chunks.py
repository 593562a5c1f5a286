"""How a prompt is cut into steps."""

from __future__ import annotations

from collections.abc import Callable

from bise_daemon.scheduler.costs import largest_chunk
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.order import Slack

ChunkMs = Callable[[int], float]

# Chunks come in multiples of this once they are larger, so that few shapes of a step are in use.
_CHUNK_GRAIN = 8
# Where waiting makes room for a larger chunk, fewer tokens than this are not worth a step's fixed cost. Taken as soon
# as they fitted, chunks of a few tokens made a prompt so slow that its request lost 113 of 130 granted tokens
# (`tests/daemon/test_admission.py`, at known costs).
_WORTHWHILE_TOKENS = 16


def chunk_beside(left_tokens: int, room: Slack, bound_ms: float, limits: Limits, chunk_ms: ChunkMs) -> int:
    """Tokens of the next chunk beside rows; 0 when none fits what they leave, or waiting for a larger one is better.

    Args:
        bound_ms: of a step.
        chunk_ms: how long the rows wait for a chunk.
    """
    size = chunk_tokens(left_tokens, min(bound_ms, room.unnoticed_ms), limits, chunk_ms)
    return 0 if room.adds_up_to(bound_ms) and size < min(left_tokens, _WORTHWHILE_TOKENS) else size


def fair_chunk(left_tokens: int, room: Slack, bound_ms: float, limits: Limits, chunk_ms: ChunkMs) -> int:
    """Where no chunk worth its step goes unnoticed: what rows without a promise wait for; 0 when promises don't."""
    if chunk_ms(min(limits.smallest_chunk, left_tokens)) > room.promised_ms:
        return 0
    size = chunk_tokens(left_tokens, min(bound_ms, room.promised_ms), limits, chunk_ms)
    return max(limits.smallest_chunk, min(limits.fair_chunk, size))


def chunk_tokens(left_tokens: int, bound_ms: float, limits: Limits, chunk_ms: ChunkMs) -> int:
    """Tokens of the next chunk within `bound_ms`; 0 when not even the smallest fits.

    Args:
        left_tokens: of the prompt.
        chunk_ms: what a chunk takes, by its tokens.
    """
    size = largest_chunk(chunk_ms, bound_ms, min(limits.prefill_chunk_tokens, left_tokens))
    if size == left_tokens:
        return size
    if size > 2 * _CHUNK_GRAIN:
        size -= size % _CHUNK_GRAIN
    # What is left for the last chunk must be one.
    size = min(size, left_tokens - limits.smallest_chunk)
    return size if size >= limits.smallest_chunk else 0
