"""How well predictions hold: what was promised at admission beside what became of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

# Enough for a p90 that means something, and few enough to forget a neighbour within minutes.
_WINDOW = 128
# A promise broken makes the next ones safer by a tenth, as much as some fifty kept ones take back: so about one in
# fifty is put at risk to find out what the device can keep, and a neighbour is answered within a few requests.
_BROKEN = 1.1
_KEPT = 0.998
_LEAST_MARGIN = 1.05
_MOST_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of relative errors, |actual - predicted| / actual."""

    p50: float
    p90: float
    samples: int


class Accuracy:
    """Of one kind of prediction, and of the promises made by it."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_WINDOW)
        self.margin = _LEAST_MARGIN
        """What predictions are multiplied by before they are promised."""

    @property
    def errors(self) -> Quantiles:
        """Quantiles of the latest errors; zeros without any."""
        errors = sorted(abs(ratio - 1) / ratio for ratio in self._ratios)
        if not errors:
            return Quantiles(0.0, 0.0, 0)
        return Quantiles(median(errors), errors[int(0.9 * (len(errors) - 1))], len(errors))

    def observe(self, predicted_ms: float, actual_ms: float) -> None:
        """Takes in what a prediction came to."""
        if predicted_ms > 0 and actual_ms > 0:
            self._ratios.append(actual_ms / predicted_ms)

    def settle(self, kept: bool) -> None:
        """Takes in whether a promise was kept."""
        self.margin = min(max(self.margin * (_KEPT if kept else _BROKEN), _LEAST_MARGIN), _MOST_MARGIN)
