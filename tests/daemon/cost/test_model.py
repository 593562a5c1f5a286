from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bise_daemon.cost.curve import Curve
from bise_daemon.cost.model import CostModel
from bise_daemon.scheduler.costs import StepCosts, largest_chunk

FEW_DOZEN = 40


def decode(
    model: CostModel, curve: Curve, steps: int, slowdown: float, noise: Callable[[], float] = lambda: 1.0
) -> None:
    for _ in range(steps):
        model.observe_decode(2, 500, curve.decode_ms(2, 500) * slowdown * noise())


def test_before_any_step_it_is_the_curve(curve: Curve) -> None:
    model: StepCosts = CostModel(curve)
    assert model.margin == 1
    for mine, calibrated in (
        (model.prefill_ms, curve.prefill_ms),
        (model.decode_ms, curve.decode_ms),
        (model.verify_ms, curve.verify_ms),
    ):
        assert mine(7, 900) == calibrated(7, 900)
    assert model.copy_ms(30) == curve.copy_ms(30)


def test_a_neighbour_is_noticed_and_forgotten_within_a_few_dozen_steps(curve: Curve) -> None:
    model = CostModel(curve)
    quiet_ms = model.decode_ms(2, 500)
    decode(model, curve, FEW_DOZEN, 2.0)
    assert model.decode_ms(2, 500) == pytest.approx(2 * quiet_ms, rel=0.05)
    decode(model, curve, FEW_DOZEN, 1.0)
    assert model.decode_ms(2, 500) == pytest.approx(quiet_ms, rel=0.05)


def test_a_neighbour_seen_in_one_kind_of_steps_slows_all_kinds(curve: Curve) -> None:
    model = CostModel(curve)
    decode(model, curve, FEW_DOZEN, 2.0)
    assert 1.5 < model.prefill_ms(64, 300) / curve.prefill_ms(64, 300) < 2.1
    assert 1.5 < model.copy_ms(64) / curve.copy_ms(64) < 2.1


def test_one_outlier_hardly_counts(curve: Curve) -> None:
    model = CostModel(curve)
    decode(model, curve, 20, 1.0)
    decode(model, curve, 1, 1000.0)
    assert model.decode_ms(2, 500) == pytest.approx(curve.decode_ms(2, 500), rel=0.06)
    assert model.margin == 1


def test_what_calibration_got_wrong_is_learned_where_it_was_wrong(curve: Curve) -> None:
    model = CostModel(curve)
    for _ in range(400):  # large chunks take half as long again; all else is as calibrated
        model.observe_prefill(128, 100, curve.prefill_ms(128, 100) * 1.5)
        model.observe_prefill(8, 100, curve.prefill_ms(8, 100))
        model.observe_decode(1, 100, curve.decode_ms(1, 100))
    assert model.prefill_ms(128, 100) == pytest.approx(curve.prefill_ms(128, 100) * 1.5, rel=0.05)
    assert model.prefill_ms(8, 100) == pytest.approx(curve.prefill_ms(8, 100), rel=0.05)
    assert model.decode_ms(1, 100) == pytest.approx(curve.decode_ms(1, 100), rel=0.05)


def test_a_chunk_with_rows_teaches_what_chunks_and_what_rows_cost(curve: Curve) -> None:
    model = CostModel(curve)
    for _ in range(600):  # what rows read takes twice as long as calibrated, all else is right
        for entries in (0, 8000):
            rows_ms = curve.decode_entry_ms * entries
            model.observe_mixed(32, 100, 2, entries, curve.mixed_ms(32, 100, 2, entries) + rows_ms)
    assert model.mixed_ms(32, 100, 2, 0) == pytest.approx(curve.mixed_ms(32, 100, 2, 0), rel=0.05)
    wanted_ms = curve.mixed_ms(32, 100, 2, 8000) + curve.decode_entry_ms * 8000
    assert model.mixed_ms(32, 100, 2, 8000) == pytest.approx(wanted_ms, rel=0.05)


def test_long_contexts_correct_attention(curve: Curve) -> None:
    model = CostModel(curve)
    for _ in range(600):  # attention takes twice as long as calibrated
        for context in (0, 8000):
            model.observe_decode(1, context, 4.0 + 0.004 * context)
    assert model.decode_ms(1, 0) == pytest.approx(4.0, rel=0.1)
    assert model.decode_ms(1, 4000) == pytest.approx(20.0, rel=0.1)


def test_verifying_teaches_rows_too(curve: Curve) -> None:
    model = CostModel(curve)
    for _ in range(FEW_DOZEN):
        model.observe_verify(4, 200, curve.verify_ms(4, 200) * 1.3)
    assert model.verify_ms(4, 200) == pytest.approx(curve.verify_ms(4, 200) * 1.3, rel=0.03)
    assert model.decode_ms(4, 800) == pytest.approx(curve.decode_ms(4, 800) * 1.3, rel=0.05)


def test_ratios_and_margin_are_quantiles_of_late(curve: Curve) -> None:
    model = CostModel(curve)
    rng = random.Random(3)
    decode(model, curve, 500, 1.0, lambda: 2.0 if rng.random() < 0.2 else 1.0)
    assert model.ratio_p50 == pytest.approx(1.0, abs=0.15)
    assert 1.5 < model.ratio_p90 < 2.1
    assert model.margin == model.ratio_p90
    decode(model, curve, 400, 1.0)
    assert model.ratio_p90 == pytest.approx(1.0, abs=0.02)


def test_the_margin_is_capped(curve: Curve) -> None:
    model = CostModel(curve)
    decode(model, curve, 3, 50.0)
    assert model.ratio_p90 > 3
    assert model.margin == 3


def test_scatter_moves_it_little(curve: Curve) -> None:
    model = CostModel(curve)
    rng = random.Random(5)
    expected_ms = []
    for _ in range(400):
        decode(model, curve, 1, 1.0, lambda: rng.uniform(0.85, 1.15))
        expected_ms.append(model.decode_ms(2, 500))
    assert max(expected_ms[50:]) / min(expected_ms[50:]) < 1.2
    assert model.margin == pytest.approx(1.13, abs=0.06)


steps = st.tuples(
    st.sampled_from(["observe_prefill", "observe_decode", "observe_verify", "observe_mixed"]),
    st.integers(1, 300),
    st.integers(0, 8000),
    st.floats(0, 1e5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(observed=st.lists(steps, max_size=60), context=st.integers(0, 8000), bound_ms=st.floats(1, 500))
def test_whatever_it_learned_times_grow_with_their_arguments(
    curve: Curve, observed: list[tuple[str, int, int, float]], context: int, bound_ms: float
) -> None:
    model = CostModel(curve)
    for kind, size, seen_context, took_ms in observed:
        rows = (3, seen_context) if kind == "observe_mixed" else ()
        getattr(model, kind)(size, seen_context, *rows, took_ms)
    for time_ms in (model.prefill_ms, model.decode_ms, model.verify_ms):
        by_size = [time_ms(size, context) for size in range(1, 200)]
        assert all(a <= b * (1 + 1e-9) for a, b in pairwise(by_size))
        assert time_ms(5, context) <= time_ms(5, context + 100)
    chunk = largest_chunk(lambda tokens: model.prefill_ms(tokens, context), bound_ms, 128)
    assert chunk == 128 or model.prefill_ms(chunk + 1, context) > bound_ms
    assert 1 <= model.margin <= 3
