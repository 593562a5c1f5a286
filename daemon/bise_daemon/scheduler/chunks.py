"""How a prompt is cut into steps."""

from __future__ import annotations

from bise_daemon.scheduler.costs import StepCosts, largest_chunk
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.order import Slack

# Chunks come in multiples of this once they are larger, so that few shapes of a step are in use.
_CHUNK_GRAIN = 8
# Where waiting makes room for a larger chunk, fewer tokens than this are not worth a step's fixed cost. Taken as soon
# as they fitted, chunks of a few tokens made a prompt so slow that its request lost 113 of 130 granted tokens
# (`tests/daemon/test_admission.py`, at known costs).
_WORTHWHILE_TOKENS = 16


def chunk_beside(left_tokens: int, context_tokens: int, room: Slack, limits: Limits, costs: StepCosts) -> int:
    """Tokens of the next chunk beside rows; 0 when none fits what they leave, or waiting for a larger one is better."""
    size = chunk_tokens(left_tokens, context_tokens, min(limits.step_ms, room.unnoticed_ms), limits, costs)
    return 0 if room.adds_up_to(limits.step_ms) and size < min(left_tokens, _WORTHWHILE_TOKENS) else size


def chunk_tokens(left_tokens: int, context_tokens: int, bound_ms: float, limits: Limits, costs: StepCosts) -> int:
    """Tokens of the next chunk within `bound_ms`; 0 when not even the smallest fits.

    Args:
        left_tokens: of the prompt.
        context_tokens: of it that are in the cache.
    """
    size = largest_chunk(costs, bound_ms, context_tokens, min(limits.prefill_chunk_tokens, left_tokens))
    if size == left_tokens:
        return size
    if size > 2 * _CHUNK_GRAIN:
        size -= size % _CHUNK_GRAIN
    # What is left for the last chunk must be one.
    size = min(size, left_tokens - limits.smallest_chunk)
    return size if size >= limits.smallest_chunk else 0
