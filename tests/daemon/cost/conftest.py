"""A device whose steps take exactly as long as a formula says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from bise_daemon.cost.curve import Curve, verified_entries
from bise_daemon.cost.line import Line
from bise_daemon.engine.runner import Logits


@dataclass
class FormulaDevice:
    """Runner, cache and clock at once: each step moves the clock by the time that the formula gives it.

    Entries that nobody wrote cost nothing to read, as pages never touched do.

    Attributes:
        base_ms: of any step.
        row_ms: of each row or token.
        entry_ms: of each cache entry read.
        copied_ms: of each token copied.
        slowdown: what neighbours do to the next steps, in order; then there are none.
        written: by slot, the entries that were written.
        steps: how many ran.
        longest_ms: of all of them.
    """

    slots: int = 8
    context_tokens: int = 4096
    base_ms: float = 3.0
    row_ms: float = 0.75
    entry_ms: float = 0.001
    copied_ms: float = 0.01
    slowdown: list[float] = field(default_factory=list)
    now_ms: float = 1000.0
    steps: int = 0

    def __post_init__(self) -> None:
        self.written: list[set[int]] = [set() for _ in range(self.slots)]

    def clock(self) -> float:
        return self.now_ms

    def chunk_ms(self, tokens: int, context: int) -> float:
        return self.base_ms + self.row_ms * tokens + self.entry_ms * tokens * (context + tokens / 2)

    def rows_ms(self, rows: int, context: int) -> float:
        return self.base_ms + self.row_ms * rows + self.entry_ms * context

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        read = self._write(slot, start, len(tokens))
        self._pass(self.chunk_ms(len(tokens), read))
        return np.zeros((int(samples), 1), np.float32)

    def verify(self, slot: int, start: int, tokens: Sequence[int], num_logits: int) -> Logits:
        read = self._write(slot, start, len(tokens))
        self._pass(self.rows_ms(len(tokens), verified_entries(len(tokens), read)))
        return np.zeros((num_logits, 1), np.float32)

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        read = sum(self._write(first_slot + row, position, 1) for row, position in enumerate(positions))
        self._pass(self.rows_ms(len(tokens), read))
        return np.zeros((len(tokens), 1), np.float32)

    def interrupt(self) -> None:
        raise AssertionError("nobody interrupts a calibration")

    def copy(self, source: int, target: int, tokens: int) -> None:
        assert source != target
        self.written[target].update(range(tokens))
        self._pass(self.copied_ms * tokens)

    def release(self, slot: int) -> None:
        self.written[slot].clear()

    def _write(self, slot: int, start: int, count: int) -> int:
        """Writes entries; returns how many were there before, below them."""
        assert 0 <= slot < self.slots
        assert start + count <= self.context_tokens
        before = sum(entry < start for entry in self.written[slot])
        self.written[slot].update(range(start, start + count))
        return before

    def _pass(self, took_ms: float) -> None:
        self.steps += 1
        self.now_ms += took_ms * (self.slowdown.pop(0) if self.slowdown else 1.0)


@pytest.fixture
def make_device() -> type[FormulaDevice]:
    """Makes devices; the formula's terms can be given by name."""
    return FormulaDevice


@pytest.fixture
def curve() -> Curve:
    """A device like two cores with SmolLM2 and an int8 cache."""
    return Curve(
        prefill=Line((1, 2, 8, 32, 128), (4.0, 4.5, 9.0, 24.0, 92.0)),
        prefill_entry=Line((1, 2, 8, 32, 128), (0.002, 0.003, 0.01, 0.04, 0.15)),
        decode=Line((1, 2, 4, 8), (4.0, 4.5, 6.0, 9.5)),
        decode_entry_ms=0.002,
        copy_start_ms=0.2,
        copy_token_ms=0.01,
    )
