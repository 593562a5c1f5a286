from __future__ import annotations

from typing import Any

import pytest

from bise_daemon.cost.calibration import calibrate
from bise_daemon.cost.curve import Curve, verified_entries
from bise_daemon.engine.runner import Interrupted


def calibrated(device: Any, budget_ms: float = 3000.0) -> Curve:
    return calibrate(
        device,
        device,
        context_tokens=device.context_tokens,
        slots=device.slots,
        clock=device.clock,
        budget_ms=budget_ms,
    )


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_guesses_are_known_however_few_slots_there_are(make_device: type[Any], slots: int) -> None:
    device = make_device(slots=slots)
    curve = calibrated(device, budget_ms=5000)
    for tokens in (2, 4, 8, 16):
        for context in (0, 300, 4000):
            verify_ms = device.rows_ms(tokens, verified_entries(tokens, context))
            assert curve.verify_ms(tokens, context) == pytest.approx(verify_ms, rel=0.03)


def test_it_recovers_the_formula(make_device: type[Any]) -> None:
    device = make_device()
    curve = calibrated(device, budget_ms=5000)
    for tokens in (1, 2, 5, 24, 100, 400):
        for context in (0, 300, 4000):
            assert curve.prefill_ms(tokens, context) == pytest.approx(device.chunk_ms(tokens, context), rel=0.02)
    for rows in (1, 3, 7, 12):
        for context in (0, 5000):
            assert curve.decode_ms(rows, context) == pytest.approx(device.rows_ms(rows, context), rel=0.02)
    assert curve.copy_ms(700) == pytest.approx(7.0, rel=0.02)


@pytest.mark.parametrize("slots", [1, 2, 5, 8])
def test_it_keeps_its_budget_and_leaves_nothing_behind(make_device: type[Any], slots: int) -> None:
    device = make_device(slots=slots)
    began_ms = device.now_ms
    calibrated(device)
    assert device.now_ms - began_ms <= 3000
    assert not any(device.written)


def test_one_slot_is_enough(make_device: type[Any]) -> None:
    device = make_device(slots=1)
    curve = calibrated(device)
    assert curve.prefill_ms(64, 2000) == pytest.approx(device.chunk_ms(64, 2000), rel=0.05)
    assert curve.decode_ms(1, 2000) == pytest.approx(device.rows_ms(1, 2000), rel=0.05)


@pytest.mark.parametrize("context_tokens", [4, 6, 40])
def test_a_small_context_is_enough(make_device: type[Any], context_tokens: int) -> None:
    device = make_device(slots=3, context_tokens=context_tokens)
    curve = calibrated(device)
    assert curve.prefill_ms(2, 2) == pytest.approx(device.chunk_ms(2, 2), rel=0.05)
    assert curve.decode_ms(3, 6) == pytest.approx(device.rows_ms(3, 6), rel=0.05)


def test_a_large_model_is_judged_by_the_steps_there_is_time_for(make_device: type[Any]) -> None:
    device = make_device(base_ms=400.0, row_ms=100.0, entry_ms=0.01)
    began_ms = device.now_ms
    curve = calibrated(device)
    assert device.now_ms - began_ms <= 3000
    assert curve.prefill_ms(64, 1000) == pytest.approx(device.chunk_ms(64, 1000), rel=0.15)
    assert curve.decode_ms(4, 0) == pytest.approx(device.rows_ms(4, 0), rel=0.15)


@pytest.mark.parametrize("slots", [1, 4])
def test_a_step_that_takes_the_whole_budget_is_the_only_one(make_device: type[Any], slots: int) -> None:
    device = make_device(slots=slots, base_ms=9000.0, copied_ms=0.0)
    began_ms = device.now_ms
    curve = calibrated(device)
    assert device.now_ms - began_ms == pytest.approx(9000.75)
    assert curve.decode_ms(1, 0) == pytest.approx(9000.75, rel=0.01)
    assert curve.prefill_ms(10, 0) >= 9000


def test_a_burst_of_a_neighbour_is_not_taken_for_the_device(make_device: type[Any]) -> None:
    device = make_device(slowdown=[1.0] * 10 + [3.0] * 12 + [1.3, 1.0] * 8)
    curve = calibrated(device, budget_ms=5000)
    assert curve.prefill_ms(64, 500) == pytest.approx(device.chunk_ms(64, 500), rel=0.05)
    assert curve.decode_ms(6, 2000) == pytest.approx(device.rows_ms(6, 2000), rel=0.05)


def test_times_that_fall_are_still_a_curve(make_device: type[Any]) -> None:
    device = make_device(slowdown=[5.0, 1.0] * 200)
    curve = calibrated(device)
    by_size = [curve.prefill_ms(size, 100) for size in range(1, 300)]
    assert by_size == sorted(by_size)


def test_an_interruption_passes_through_and_releases(make_device: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device()

    def give_up(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(device, "verify", give_up)
    with pytest.raises(Interrupted):
        calibrated(device)
    assert not any(device.written)
