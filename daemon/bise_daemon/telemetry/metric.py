"""What a metric is, before it has a value."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# UCUM's units in the words of Prometheus' names; what stands in braces is no unit.
_UNIT_WORDS = {"s": "seconds", "By": "bytes", "J": "joules", "Cel": "celsius", "1": "ratio"}


class Instrument(StrEnum):
    """How values add up: a counter only grows, a gauge is as it is now, a histogram is of single observations."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table.

    Attributes:
        name: OpenTelemetry's form, dots between words.
        unit: in UCUM; `{token}` and the like count things.
        labels: names, OpenTelemetry's form.
        bounds: a histogram's inclusive upper ones, but for infinity.
    """

    name: str
    instrument: Instrument
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def prometheus_family(self) -> str:
        """The name in Prometheus' form, without the `_total` that its counters end with.

        By OpenTelemetry's specification, Prometheus and OpenMetrics compatibility.
        """
        word = _UNIT_WORDS.get(self.unit, "")
        name = prometheus_word(self.name)
        return f"{name}_{word}" if word and not name.endswith(f"_{word}") else name

    @property
    def prometheus_names(self) -> frozenset[str]:
        """What expressions may call it."""
        family = self.prometheus_family
        match self.instrument:
            case Instrument.COUNTER:
                return frozenset({f"{family}_total"})
            case Instrument.GAUGE:
                return frozenset({family})
            case Instrument.HISTOGRAM:
                return frozenset({f"{family}_bucket", f"{family}_sum", f"{family}_count"})


def prometheus_word(name: str) -> str:
    """A name of a metric or label in Prometheus' form."""
    return name.replace(".", "_")


class Distribution:
    """A histogram's observations with one set of labels.

    Args:
        bounds: as a `Metric`'s.

    Attributes:
        counts: of observations up to each bound and above the one before; the last of those above all.
        sum: of all values.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Takes in one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


# By the values of a metric's labels, in their order.
Points = Mapping[tuple[str, ...], float | Distribution]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its values at one moment."""

    metric: Metric
    points: Points
