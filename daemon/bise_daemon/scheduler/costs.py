"""What a step is expected to cost: the scheduler's only idea of the device it runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class StepCosts(Protocol):
    """Expected step times in milliseconds; medians, not means. All grow with their arguments.

    Attributes:
        margin: how much longer than expected a step may take, at least 1: what a promise must leave room for on this
            device, with its neighbours (a high quantile of actual over expected times).
    """

    @property
    def margin(self) -> float: ...

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        """A chunk of `tokens` (at least 1) behind `context_tokens` cache entries."""
        ...

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        """One token for each of `rows` (at least 1), fillers included; `context_tokens` is the sum over the rows."""
        ...

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        """A chunk of `tokens` behind `context_tokens` and one token for each of `rows`, in one step."""
        ...

    def verify_ms(self, tokens: int, context_tokens: int) -> float:
        """A token of an answer and guesses behind it, with logits after each; `tokens` counts all of them."""
        ...

    def copy_ms(self, tokens: int) -> float:
        """Bringing cache entries from one slot to another."""
        ...


def largest_chunk(chunk_ms: Callable[[int], float], bound_ms: float, most_tokens: int) -> int:
    """The most prompt tokens, up to `most_tokens`, whose step is expected to stay within `bound_ms`; 0 if not one.

    Args:
        chunk_ms: by tokens; grows with them.
    """
    if most_tokens and chunk_ms(most_tokens) <= bound_ms:
        return most_tokens
    low, high = 0, most_tokens - 1
    while low < high:
        middle = (low + high + 1) // 2
        if chunk_ms(middle) <= bound_ms:
            low = middle
        else:
            high = middle - 1
    return low
