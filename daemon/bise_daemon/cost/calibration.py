"""Measures a loaded model's steps, within a time budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bise_daemon.cost.curve import Curve
from bise_daemon.cost.measurements import Measurements
from bise_daemon.cost.probe import DEEP_ROWS, DecodeProbe, PrefillProbe, Probe, probes
from bise_daemon.engine.runner import Cache, Runner

_MOST_DEPTH_TOKENS = 1024
_REPEATS = 3
# With one slot there is nothing to copy a context from: it is computed, in chunks, for at most this share of the time.
_CHUNK_TOKENS = 32
_FILL_SHARE = 0.3


def calibrate(
    runner: Runner,
    cache: Cache,
    *,
    context_tokens: int,
    slots: int,
    clock: Callable[[], float],
    budget_ms: float = 3000.0,
) -> Curve:
    """Measures real steps and draws the curve through them.

    The smallest steps come first, since each tells how long the next will take; none is begun that is expected to
    overrun what is left of the budget. What was not measured is drawn on from what was. All is measured once before
    anything is measured again, and of repeats the least counts, since neighbours only ever make a step slower: what
    they do just now is for the cost model to find out.

    Attention is measured at one depth of context, half of a slot but at most 1,024 tokens, in two slots at most, over
    memory that has really been written: pages never touched are all one page of zeros, which reads too fast.

    Args:
        runner: loaded; nothing else uses it or the cache meanwhile.
        cache: what its first slots hold is lost; all are released in the end.
        context_tokens: entries a slot can hold, at least 4.
        slots: rows a decode step can have, at least 1.
        clock: milliseconds that never go back.
        budget_ms: for all of it. Only the first step, of one token, and the copies that fill two slots are taken
            without knowing how long they will be.

    Raises:
        Interrupted: somebody interrupted the runner.
    """
    bench = _Bench(runner, cache, clock, budget_ms)
    try:
        bench.measure(DecodeProbe(1, 0))
        depth = bench.fill(min(_MOST_DEPTH_TOKENS, context_tokens // 2), slots)
        for repeat in range(_REPEATS):
            for probe in probes(context_tokens, slots, depth):
                if bench.times_measured(probe) <= repeat and bench.has_time_for(probe):
                    bench.measure(probe)
        return bench.measurements.curve()
    finally:
        for slot in range(slots):
            cache.release(slot)


class _Bench:
    """Runs steps and copies by the clock."""

    def __init__(self, runner: Runner, cache: Cache, clock: Callable[[], float], budget_ms: float) -> None:
        self.measurements = Measurements()
        self._runner = runner
        self._cache = cache
        self._clock = clock
        self._ends_ms = clock() + budget_ms
        self._fill_ends_ms = clock() + budget_ms * _FILL_SHARE

    def has_time_for(self, probe: Probe) -> bool:
        return self._clock() + probe.expected_ms(self.measurements.curve()) <= self._ends_ms

    def times_measured(self, probe: Probe) -> int:
        return len(self.measurements.times_ms.get(probe, ()))

    def measure(self, probe: Probe) -> None:
        self.measurements.times_ms[probe].append(self._timed(partial(probe.run, self._runner)))

    def fill(self, depth: int, slots: int) -> int:
        """Has the first slots hold entries that were really written; returns how many."""
        if slots < DEEP_ROWS:
            return self._fill_by_chunks(depth)
        # What was never there reads as zeros, but its copy is memory.
        self._cache.copy(0, 1, depth)
        for tokens in (1, depth):
            # Into a slot without pages, as one is when a request begins there.
            self._cache.release(0)
            self.measurements.copies_ms[tokens] = self._timed(partial(self._cache.copy, 1, 0, tokens))
        return depth

    def _fill_by_chunks(self, depth: int) -> int:
        filled = 0
        chunk_ms = PrefillProbe(_CHUNK_TOKENS, 0).expected_ms(self.measurements.curve())
        while filled < depth and self._clock() + chunk_ms <= self._fill_ends_ms:
            chunk = PrefillProbe(min(_CHUNK_TOKENS, depth - filled), filled)
            chunk_ms = self._timed(partial(chunk.run, self._runner))
            filled += chunk.tokens
        return filled

    def _timed(self, run: Callable[[], object]) -> float:
        began_ms = self._clock()
        run()
        return self._clock() - began_ms
