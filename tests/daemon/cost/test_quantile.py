from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.cost.quantile import Window


def test_an_empty_window_says_what_it_is_told() -> None:
    assert Window(4).quantile(0.5, empty=7.0) == 7


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 20), st.floats(0.01, 1))
def test_quantiles_are_those_of_the_latest_values(values: list[float], most: int, share: float) -> None:
    window = Window(most)
    for value in values:
        window.add(value)
    kept = sorted(values[-most:])
    assert window.quantile(share, 0.0) == kept[math.ceil(share * len(kept)) - 1]
