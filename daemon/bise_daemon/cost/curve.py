"""The times of all kinds of steps, as calibrated."""

from __future__ import annotations

from dataclasses import dataclass

from bise_daemon.cost.line import Line, is_time


@dataclass(frozen=True, slots=True)
class Curve:
    """Step times of one model on one device in quiet: `StepCosts` without corrections.

    A step costs what its matrices cost, by new tokens or rows, and what attention costs, in proportion to the cache
    entries it reads. For a chunk the price of an entry grows with the chunk, but not from zero: the float32 kernel
    reads the cache once whatever the chunk, the int8 kernel once for each token. So it is a line of its own.

    Attributes:
        prefill: by new tokens, without attention.
        prefill_entry: for each cache entry read, by new tokens.
        decode: by rows, or by guesses and the token before them, without attention.
        decode_entry_ms: for each cache entry read, of whichever row.
        copy_start_ms: for a copy between slots.
        copy_token_ms: for each token copied.

    Raises:
        ValueError: a time is negative, not finite, or beyond any step.
    """

    prefill: Line
    prefill_entry: Line
    decode: Line
    decode_entry_ms: float
    copy_start_ms: float
    copy_token_ms: float

    def __post_init__(self) -> None:
        for name in ("decode_entry_ms", "copy_start_ms", "copy_token_ms"):
            if not is_time(value_ms := getattr(self, name)):
                raise ValueError(f"{name}: expected a time in ms, got {value_ms}")

    @property
    def margin(self) -> float:
        """1: nothing is known about neighbours."""
        return 1.0

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        """A chunk; its own tokens read half of themselves on average."""
        return self.prefill.at(tokens) + self.prefill_entry.at(tokens) * (context_tokens + tokens / 2)

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        """One token for each row; `context_tokens` is the sum over the rows."""
        return self.decode.at(rows) + self.decode_entry_ms * context_tokens

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        """A chunk and a token for each row: matrices take them as one chunk, attention each in its way."""
        chunk_ms = self.prefill_ms(tokens, context_tokens) - self.prefill.at(tokens)
        return self.prefill.at(tokens + rows) + chunk_ms + self.decode_entry_ms * rows_context_tokens

    def verify_ms(self, tokens: int, context_tokens: int) -> float:
        """Guesses behind a token of an answer: what as many rows of the same context take."""
        return self.decode_ms(tokens, verified_entries(tokens, context_tokens))

    def copy_ms(self, tokens: int) -> float:
        """Cache entries from slot to slot."""
        return self.copy_start_ms + self.copy_token_ms * tokens


def verified_entries(tokens: int, context_tokens: int) -> int:
    """Cache entries read to verify guesses: each token reads those before it."""
    return tokens * context_tokens + tokens * (tokens - 1) // 2
