"""A line through measured points: what a step's time is made of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

_MOST_KNOTS = 64
_MOST_SIZE = 1 << 20
_MOST_MS = 1e9


@dataclass(frozen=True, slots=True)
class Line:
    """Milliseconds by size: piecewise linear, never decreasing.

    Beyond its last knot it goes on with the steeper of its last piece and its mean slope, so that one flat piece does
    not make large steps free; a lone knot is taken as proportional.

    Attributes:
        sizes: of the knots: 1, then ascending.
        times_ms: at the knots.

    Raises:
        ValueError: the knots are not such a line.
    """

    sizes: tuple[int, ...]
    times_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes, times_ms = self.sizes, self.times_ms
        if not 1 <= len(sizes) == len(times_ms) <= _MOST_KNOTS:
            raise ValueError(f"expected 1 to {_MOST_KNOTS} sizes and as many times, got {len(sizes)}, {len(times_ms)}")
        if sizes[0] != 1 or sizes[-1] > _MOST_SIZE or not all(a < b for a, b in pairwise(sizes)):
            raise ValueError(f"expected sizes ascending from 1 to at most {_MOST_SIZE}, got {sizes}")
        if not all(map(is_time, times_ms)) or not all(a <= b for a, b in pairwise(times_ms)):
            raise ValueError(f"expected times of 0 to {_MOST_MS:g} ms, never decreasing, got {times_ms}")

    def at(self, size: int) -> float:
        """The time at a size of at least 1."""
        sizes, times_ms = self.sizes, self.times_ms
        right = bisect_right(sizes, size)
        if right == len(sizes):
            return times_ms[-1] + self._tail_ms() * (size - sizes[-1])
        left = right - 1
        start_ms = times_ms[left]
        return start_ms + (times_ms[right] - start_ms) * (size - sizes[left]) / (sizes[right] - sizes[left])

    def scaled(self, size: int, factor: float) -> Line:
        """The line with its knot nearest to `size` multiplied; the others give way where it would decrease."""
        nearest = min(range(len(self.sizes)), key=lambda knot: abs(self.sizes[knot] - size))
        time_ms = self.times_ms[nearest] * factor
        before = (min(each, time_ms) for each in self.times_ms[:nearest])
        after = (max(each, time_ms) for each in self.times_ms[nearest + 1 :])
        return Line(self.sizes, (*before, time_ms, *after))

    def _tail_ms(self) -> float:
        """For each size beyond the last knot."""
        sizes, times_ms = self.sizes, self.times_ms
        if len(sizes) == 1:
            return times_ms[0]
        last_ms = (times_ms[-1] - times_ms[-2]) / (sizes[-1] - sizes[-2])
        mean_ms = (times_ms[-1] - times_ms[0]) / (sizes[-1] - sizes[0])
        return max(last_ms, mean_ms)


def fit(times_ms: Mapping[int, float]) -> Line:
    """The line nearest to measured times, by least squares: isotonic regression, pooling adjacent violators.

    Args:
        times_ms: by size, the size 1 among them; a negative time counts as 0.
    """
    pools: list[tuple[float, int]] = []
    for _, time_ms in sorted(times_ms.items()):
        mean_ms, count = max(0.0, time_ms), 1
        while pools and pools[-1][0] > mean_ms:
            other_ms, others = pools.pop()
            mean_ms, count = (mean_ms * count + other_ms * others) / (count + others), count + others
        pools.append((mean_ms, count))
    return Line(tuple(sorted(times_ms)), tuple(mean_ms for mean_ms, count in pools for _ in range(count)))


def is_time(value_ms: float) -> bool:
    """Whether this can be the time of a step, or of a part of one; a NaN can't."""
    return 0 <= value_ms <= _MOST_MS
