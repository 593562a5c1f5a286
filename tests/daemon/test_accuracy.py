"""How well predictions hold."""

from __future__ import annotations

import pytest

from bise_daemon.accuracy import Accuracy, Quantiles


def observed(*ratios: float) -> Accuracy:
    accuracy = Accuracy()
    for ratio in ratios:
        accuracy.observe(100.0, 100.0, 100.0 * ratio)
    return accuracy


def test_without_experience_there_is_a_little_margin_and_no_error() -> None:
    assert Accuracy().margin == 1.05
    assert Accuracy().errors == Quantiles(0.0, 0.0, 0)


def test_errors_are_shares_of_what_it_took() -> None:
    errors = observed(2.0, 1.0, 0.8).errors
    assert errors.p50 == pytest.approx(0.25)
    assert errors.samples == 3


def test_nine_of_ten_errors_are_below_the_ninetieth() -> None:
    assert observed(*[1.0] * 89, *[2.0] * 11).errors.p90 == 0.5
    assert observed(*[1.0] * 91, *[2.0] * 9).errors.p90 == 0.0


def settled(*kept: bool) -> float:
    accuracy = Accuracy()
    for each in kept:
        accuracy.settle(each)
    return accuracy.margin


def test_a_broken_promise_makes_the_next_ones_safer_by_a_tenth() -> None:
    assert settled(False) == pytest.approx(1.05 * 1.1)
    assert settled(False, False) == pytest.approx(1.05 * 1.21)


def test_fifty_kept_ones_take_that_back() -> None:
    assert settled(False, *[True] * 40) > 1.05
    assert settled(False, *[True] * 50) == 1.05


def test_the_margin_stays_within_bounds() -> None:
    assert settled(*[True] * 100) == 1.05
    assert settled(*[False] * 100) == 3.0


def test_old_errors_are_forgotten() -> None:
    accuracy = observed(*[3.0] * 128, *[1.0] * 128)
    assert accuracy.errors.p90 == 0.0


@pytest.mark.parametrize(("forecast_ms", "actual_ms"), [(0.0, 5.0), (5.0, 0.0), (-1.0, 5.0), (5.0, -1.0)])
def test_what_is_no_time_teaches_nothing(forecast_ms: float, actual_ms: float) -> None:
    accuracy = Accuracy()
    accuracy.observe(forecast_ms, 5.0, actual_ms)
    assert accuracy.errors.samples == 0


def test_the_likely_time_is_what_forecasts_of_that_size_came_to() -> None:
    accuracy = Accuracy()
    for _ in range(24):
        accuracy.observe(100.0, 100.0, 110.0)
        accuracy.observe(5000.0, 5000.0, 8000.0)
    assert accuracy.likely_ms(90.0) == pytest.approx(99.0)
    assert accuracy.likely_ms(6000.0) == pytest.approx(9600.0)


def test_few_forecasts_say_nothing_of_the_next() -> None:
    assert observed(*[2.0] * 23).likely_ms(100.0) == 100.0
    assert observed(*[2.0] * 24).likely_ms(100.0) == 200.0


def test_no_time_at_all_is_likely_none() -> None:
    assert observed(*[2.0] * 24).likely_ms(0.0) == 0.0


def test_errors_are_of_what_was_told() -> None:
    accuracy = Accuracy()
    accuracy.observe(100.0, 200.0, 200.0)
    assert accuracy.errors.p50 == 0.0
