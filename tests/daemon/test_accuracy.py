"""How well predictions hold."""

from __future__ import annotations

import pytest

from bise_daemon.accuracy import Accuracy, Quantiles


def observed(*ratios: float) -> Accuracy:
    accuracy = Accuracy()
    for ratio in ratios:
        accuracy.observe(100.0, 100.0 * ratio)
    return accuracy


def test_without_experience_there_is_a_little_margin_and_no_error() -> None:
    assert Accuracy().margin == 1.1
    assert Accuracy().errors == Quantiles(0.0, 0.0, 0)


def test_errors_are_shares_of_what_it_took() -> None:
    errors = observed(2.0, 1.0, 0.8).errors
    assert errors.p50 == pytest.approx(0.25)
    assert errors.samples == 3


def test_nine_of_ten_errors_are_below_the_ninetieth() -> None:
    assert observed(*[1.0] * 89, *[2.0] * 11).errors.p90 == 0.5
    assert observed(*[1.0] * 91, *[2.0] * 9).errors.p90 == 0.0


@pytest.mark.parametrize(("late", "margin"), [(0, 1.1), (5, 1.1), (30, 2.0)])
def test_the_margin_covers_nine_of_ten(late: int, margin: float) -> None:
    accuracy = observed(*[1.0] * (100 - late), *[2.0] * late)
    assert accuracy.margin == pytest.approx(margin)


def test_nine_are_too_few_to_learn_from() -> None:
    accuracy = observed(*[3.0] * 9)
    assert accuracy.margin == 1.1
    accuracy.observe(100.0, 300.0)
    assert accuracy.margin == pytest.approx(3.0)


def test_predictions_that_were_too_long_earn_no_less_than_the_least_margin() -> None:
    assert observed(*[0.5] * 50).margin == 1.1


def test_bad_times_are_forgotten() -> None:
    accuracy = observed(*[3.0] * 128)
    assert accuracy.margin == pytest.approx(3.0)
    for _ in range(128):
        accuracy.observe(100.0, 100.0)
    assert (accuracy.margin, accuracy.errors.p90) == (1.1, 0.0)


@pytest.mark.parametrize(("predicted_ms", "actual_ms"), [(0.0, 5.0), (5.0, 0.0), (-1.0, 5.0), (5.0, -1.0)])
def test_what_is_no_time_teaches_nothing(predicted_ms: float, actual_ms: float) -> None:
    accuracy = Accuracy()
    accuracy.observe(predicted_ms, actual_ms)
    assert accuracy.errors.samples == 0
