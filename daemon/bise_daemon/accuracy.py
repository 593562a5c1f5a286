"""How well predictions hold: what was promised at admission beside what became of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import log
from statistics import median

# Enough for a p90 that means something, and few enough to forget a neighbour within minutes.
_WINDOW = 128
_NEAREST = 24
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
        self._ratios: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._errors: deque[float] = deque(maxlen=_WINDOW)
        self.margin = _LEAST_MARGIN
        """What forecasts are multiplied by before they are promised."""

    @property
    def errors(self) -> Quantiles:
        """Quantiles of the latest errors; zeros without any."""
        errors = sorted(self._errors)
        if not errors:
            return Quantiles(0.0, 0.0, 0)
        return Quantiles(median(errors), errors[int(0.9 * (len(errors) - 1))], len(errors))

    def likely_ms(self, forecast_ms: float) -> float:
        """What a forecast like this usually comes to: whoever arrives later is in none of them."""
        if forecast_ms <= 0:
            return forecast_ms
        near = sorted(self._ratios, key=lambda each: abs(log(each[0] / forecast_ms)))[:_NEAREST]
        return forecast_ms * median(ratio for _, ratio in near) if len(near) == _NEAREST else forecast_ms

    def observe(self, forecast_ms: float, told_ms: float, actual_ms: float) -> None:
        """Takes in what a forecast, and what the caller was told by it, came to."""
        if min(forecast_ms, told_ms, actual_ms) > 0:
            self._ratios.append((forecast_ms, actual_ms / forecast_ms))
            self._errors.append(abs(actual_ms - told_ms) / actual_ms)

    def settle(self, kept: bool) -> None:
        """Takes in whether a promise was kept."""
        self.margin = min(max(self.margin * (_KEPT if kept else _BROKEN), _LEAST_MARGIN), _MOST_MARGIN)
