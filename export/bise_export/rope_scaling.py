"""What a model's rotary embedding differs in from the plain one, whatever its config calls it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from bise_export.errors import SourceError


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Linear, llama3, YaRN and LongRoPE scaling in one form: each pair's frequency divided, all of them magnified.

    Attributes:
        divisors: of each pair's frequency, first pair first; empty is 1 for all.
        magnitude: what cosines and sines are multiplied by (the attention factor of YaRN and LongRoPE).
        long_divisors: LongRoPE's second set, for texts of more than `short_context` tokens; empty where there is none.
        short_context: tokens up to which `divisors` hold.

    Raises:
        SourceError: a number is out of its bounds, or the two sets don't go together.
    """

    divisors: tuple[float, ...] = ()
    magnitude: float = 1.0
    long_divisors: tuple[float, ...] = ()
    short_context: int | None = None

    def __post_init__(self) -> None:
        for number in (*self.divisors, *self.long_divisors, self.magnitude):
            if not 0 < number < inf:
                raise SourceError(f"rope scaling: expected positive factors, got {number}. Get the model's own files.")
        if bool(self.long_divisors) != (self.short_context is not None):
            raise SourceError(
                f"rope scaling: expected long factors together with the context from which they hold, got "
                f"{len(self.long_divisors)} factors and {self.short_context}. Get the model's own files."
            )

    def for_context(self, context: int) -> RopeScaling:
        """The one set for rows of up to `context` tokens.

        LongRoPE changes all angles, those of cached keys too, when a text grows beyond `short_context`. A cache can't
        follow, so a row keeps one set from its first token on: short if it can't grow so long, else long.
        """
        if self.short_context is None:
            return self
        divisors = self.divisors if context <= self.short_context else self.long_divisors
        return RopeScaling(divisors, self.magnitude)


UNSCALED = RopeScaling()
