"""How well predictions hold: what was promised at admission beside what became of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median, quantiles

# Enough for a p90 that means something, and few enough to forget a neighbour within minutes.
_WINDOW = 128
# Before there is experience, and as a floor of it: the first requests after a start are not promised to the last ms.
_LEAST_MARGIN = 1.1
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of relative errors, |actual - predicted| / actual."""

    p50: float
    p90: float
    samples: int


class Accuracy:
    """Of one kind of prediction; keeps the latest."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_WINDOW)
        self._margin = _LEAST_MARGIN

    @property
    def margin(self) -> float:
        """What to multiply a prediction by so that nine of ten hold; at least a little more than 1."""
        return self._margin

    @property
    def errors(self) -> Quantiles:
        """Quantiles of the errors in the window; zeros without any."""
        errors = sorted(abs(ratio - 1) / ratio for ratio in self._ratios)
        if not errors:
            return Quantiles(0.0, 0.0, 0)
        return Quantiles(median(errors), errors[int(0.9 * (len(errors) - 1))], len(errors))

    def observe(self, predicted_ms: float, actual_ms: float) -> None:
        """Takes in what a prediction came to."""
        if predicted_ms <= 0 or actual_ms <= 0:
            return
        self._ratios.append(actual_ms / predicted_ms)
        if len(self._ratios) >= _FEWEST:
            self._margin = max(_LEAST_MARGIN, quantiles(self._ratios, n=10)[-1])
