from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bise_daemon.cost.curve import Curve
from bise_daemon.scheduler.costs import StepCosts, largest_chunk

sizes = st.integers(1, 600)
contexts = st.integers(0, 40_000)
more = st.integers(0, 500)


def test_a_chunk_reads_what_is_before_it_and_half_of_itself(curve: Curve) -> None:
    assert curve.prefill_ms(8, 0) == pytest.approx(9.0 + 0.01 * 4)
    assert curve.prefill_ms(8, 1000) == pytest.approx(9.0 + 0.01 * 1004)


def test_rows_of_a_step_read_their_contexts(curve: Curve) -> None:
    assert curve.decode_ms(4, 3000) == pytest.approx(6.0 + 6.0)


def test_guesses_cost_what_as_many_rows_do(curve: Curve) -> None:
    assert curve.verify_ms(4, 100) == curve.decode_ms(4, 100 + 101 + 102 + 103)


def test_a_chunk_with_rows_is_one_chunk_to_the_matrices_and_each_attends_in_its_way(curve: Curve) -> None:
    attended_ms = curve.prefill_ms(8, 1000) - curve.prefill.at(8)
    rows_ms = curve.decode_ms(4, 3000) - curve.decode_ms(4, 0)
    assert curve.mixed_ms(8, 1000, 4, 3000) == pytest.approx(curve.prefill.at(12) + attended_ms + rows_ms)


def test_copying_is_proportional_but_for_its_beginning(curve: Curve) -> None:
    assert curve.copy_ms(100) == pytest.approx(1.2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=sizes, context=contexts, more_size=more, more_context=more)
def test_every_time_grows_with_every_argument(
    curve: Curve, size: int, context: int, more_size: int, more_context: int
) -> None:
    for time_ms in (curve.prefill_ms, curve.decode_ms, curve.verify_ms):
        assert time_ms(size, context) <= time_ms(size + more_size, context + more_context)
    mixed_ms = curve.mixed_ms(size, context, 2, context)
    assert mixed_ms <= curve.mixed_ms(size + more_size, context + more_context, 3, context + more_context)
    assert curve.copy_ms(size) <= curve.copy_ms(size + more_size)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bound_ms=st.floats(1, 500), context=contexts)
def test_it_serves_the_search_for_a_chunk(curve: Curve, bound_ms: float, context: int) -> None:
    costs: StepCosts = curve
    chunk = largest_chunk(lambda tokens: costs.prefill_ms(tokens, context), bound_ms, 256)
    assert chunk == 0 or curve.prefill_ms(chunk, context) <= bound_ms
    assert chunk == 256 or curve.prefill_ms(chunk + 1, context) > bound_ms


@pytest.mark.parametrize("name", ["decode_entry_ms", "copy_start_ms", "copy_token_ms"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(curve: Curve, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(curve, **{name: value})
