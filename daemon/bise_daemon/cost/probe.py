"""The steps that calibration measures."""

from __future__ import annotations

from dataclasses import dataclass

from bise_daemon.cost.curve import Curve
from bise_daemon.engine.runner import Runner

# Rows that are measured at depth: two tell the price of a cache entry, and more would need more memory.
DEEP_ROWS = 2
# Where matrix kernels change their ways: from the third row on int4 waits for arithmetic instead of memory, and from
# 128 on nothing changes any more (ARCHITECTURE.md, "Chunks").
_SIZES = (2, 3, 4, 8, 16, 32, 64, 128)
# Guesses and the token before them, where there are fewer slots: all sizes that guessing uses (`scheduler.drafts`).
_VERIFIED_SIZES = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class PrefillProbe:
    """A chunk of `tokens` behind `start` entries, with logits: the head's time counts in small chunks, which are
    mostly the last of their prompt."""

    tokens: int
    start: int

    def expected_ms(self, curve: Curve) -> float:
        """What it should take."""
        return curve.prefill_ms(self.tokens, self.start)

    def run(self, runner: Runner) -> None:
        """Takes the step."""
        runner.prefill(0, self.start, [0] * self.tokens, True)


@dataclass(frozen=True, slots=True)
class DecodeProbe:
    """A token for each of `rows`, all at `start`."""

    rows: int
    start: int

    def expected_ms(self, curve: Curve) -> float:
        """What it should take."""
        return curve.decode_ms(self.rows, self.rows * self.start)

    def run(self, runner: Runner) -> None:
        """Takes the step."""
        runner.decode(0, [0] * self.rows, [self.start] * self.rows)


@dataclass(frozen=True, slots=True)
class VerifyProbe:
    """Guesses at the start of a slot, as tokens of an answer: what as many rows would take if there were slots."""

    tokens: int

    def expected_ms(self, curve: Curve) -> float:
        """What it should take; before it is known, no less than a chunk of a prompt."""
        return max(curve.verify_ms(self.tokens, 0), curve.prefill_ms(self.tokens, 0))

    def run(self, runner: Runner) -> None:
        """Takes the step."""
        runner.verify(0, 0, [0] * self.tokens, self.tokens)


Probe = PrefillProbe | DecodeProbe | VerifyProbe


def probes(context_tokens: int, slots: int, depth: int) -> list[Probe]:
    """What to measure, the most telling first: the smaller, and what a chunk costs by its size before all else.

    Args:
        context_tokens: entries a slot can hold.
        slots: rows a decode step can have.
        depth: entries that the first slots hold; 0 leaves attention unmeasured.
    """
    starts = (0, depth) if depth else (0,)
    sizes = [size for size in (1, *_SIZES) if size <= context_tokens - depth]
    chunks = [PrefillProbe(size, start) for start in starts for size in sizes]
    rows = sorted({1, slots, *(size for size in _SIZES if size < slots)})
    decodes = [DecodeProbe(size, start) for start in starts for size in rows if not start or size <= DEEP_ROWS]
    verifies = [VerifyProbe(size) for size in _VERIFIED_SIZES if slots < size <= context_tokens]
    return sorted([*chunks, *decodes, *verifies], key=_turn)


def _turn(probe: Probe) -> int:
    match probe:
        case PrefillProbe(tokens=tokens, start=0):
            return tokens
        case DecodeProbe(rows=size) | PrefillProbe(tokens=size) | VerifyProbe(tokens=size):
            # On a large model the first chunks may be all there is time for.
            return 4 * size
