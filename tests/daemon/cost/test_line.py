from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.cost.line import Line, fit

times_ms = st.floats(0, 1e6)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    sizes = sorted({1, *draw(st.sets(st.integers(1, 300), max_size=6))})
    return Line(tuple(sizes), tuple(sorted(draw(st.lists(times_ms, min_size=len(sizes), max_size=len(sizes))))))


def test_it_goes_straight_through_its_knots() -> None:
    line = Line((1, 3, 7), (4.0, 8.0, 10.0))
    assert [line.at(size) for size in (1, 2, 3, 5, 7)] == [4, 6, 8, 9, 10]


def test_beyond_its_knots_it_is_as_steep_as_its_last_piece() -> None:
    assert Line((1, 2, 4), (1.0, 1.5, 9.5)).at(10) == 9.5 + 6 * 4


def test_a_flat_last_piece_does_not_make_large_steps_free() -> None:
    assert Line((1, 2, 5), (1.0, 9.0, 9.0)).at(9) == 9 + 4 * 2


def test_a_lone_knot_is_proportional() -> None:
    assert Line((1,), (5.0,)).at(4) == 20


@given(lines(), st.integers(1, 1000), st.integers(0, 1000))
def test_it_never_decreases(line: Line, size: int, more: int) -> None:
    assert line.at(size) <= line.at(size + more) * (1 + 1e-9)


@given(lines(), st.integers(1, 400), st.floats(0.5, 2))
def test_scaling_moves_the_nearest_knot_and_keeps_the_order(line: Line, size: int, factor: float) -> None:
    nearest = min(line.sizes, key=lambda knot: abs(knot - size))
    scaled = line.scaled(size, factor)
    assert scaled.at(nearest) == line.at(nearest) * factor
    assert all(a <= b for a, b in pairwise(scaled.times_ms))


def test_scaling_leaves_the_other_knots_alone_where_it_can() -> None:
    assert Line((1, 2, 4, 8), (1.0, 2.0, 4.0, 8.0)).scaled(4, 1.5).times_ms == (1, 2, 6, 8)
    assert Line((1, 2, 4, 8), (1.0, 2.0, 4.0, 8.0)).scaled(4, 0.25).times_ms == (1, 1, 1, 8)


def test_fit_pools_what_decreases() -> None:
    assert fit({4: 3.0, 1: 1.0, 2: 5.0, 8: 9.0}) == Line((1, 2, 4, 8), (1.0, 4.0, 4.0, 9.0))
    assert fit({1: 6.0, 2: 3.0, 3: 0.0}).times_ms == (3, 3, 3)
    assert fit({1: -2.0, 2: 1.0}).times_ms == (0, 1)


@given(st.dictionaries(st.integers(2, 300), times_ms, max_size=8), times_ms)
def test_fit_keeps_the_sum(measured: dict[int, float], first_ms: float) -> None:
    measured[1] = first_ms
    assert sum(fit(measured).times_ms) == pytest.approx(sum(measured.values()))


@pytest.mark.parametrize(
    ("sizes", "times"),
    [
        ((), ()),
        ((1, 2), (1.0,)),
        ((2, 3), (1.0, 2.0)),
        ((1, 1), (1.0, 2.0)),
        ((1, 1 << 21), (1.0, 2.0)),
        ((1, 2), (2.0, 1.0)),
        ((1, 2), (-1.0, 1.0)),
        ((1, 2), (1.0, float("inf"))),
        ((1, 2), (float("nan"), 1.0)),
        (tuple(range(1, 66)), (1.0,) * 65),
    ],
)
def test_anything_else_is_refused(sizes: tuple[int, ...], times: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Line(sizes, times)
