"""The planner against every assignment there is, and the budget it must never exceed."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bise_export.quant.formats import Floats
from bise_export.quant.planner import Choice, plan, smallest_bytes

FORMAT = Floats(np.dtype(np.float32))
SMALLEST = (100, 8.0)


def table(*matrices):
    """{"0": choices, "1": choices, …} from (bytes, loss) pairs."""
    return {
        str(number): [Choice(FORMAT, size, loss) for size, loss in matrix] for number, matrix in enumerate(matrices)
    }


def total(chosen):
    """(bytes, loss) of an assignment."""
    return sum(each.size_bytes for each in chosen), sum(each.loss for each in chosen)


CHOICES = st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100)), min_size=1, max_size=5, unique_by=lambda c: c[0])


def test_the_bytes_go_where_they_save_most():
    choices = table([SMALLEST, (200, 7.9)], [SMALLEST, (200, 1.0)], [SMALLEST, (200, 4.0)])

    chosen = plan(choices, 500)

    assert [chosen[name].size_bytes for name in "012"] == [100, 200, 200]


def test_a_choice_above_the_hull_is_left_out():
    choices = table([SMALLEST, (150, 7.9), (200, 1.0)], [SMALLEST, (150, 7.9), (200, 1.0)])

    assert [each.size_bytes for each in plan(choices, 300).values()] == [200, 100]


def test_what_the_walk_leaves_is_used():
    choices = table([SMALLEST, (400, 0.1)], [SMALLEST, (150, 7.9)])

    assert [each.size_bytes for each in plan(choices, 260).values()] == [100, 150]


def test_a_larger_format_that_loses_more_is_never_chosen():
    assert plan(table([SMALLEST, (200, 9.0)]), 1000)["0"].size_bytes == 100


@given(st.lists(CHOICES, min_size=1, max_size=4), st.integers(0, 2000))
def test_never_above_the_budget_nor_worse_than_the_smallest(matrices, more):
    choices = table(*matrices)
    least = smallest_bytes(choices)

    size, loss = total(plan(choices, least + more).values())

    assert least <= size <= least + more
    smallest = [min(each, key=lambda choice: choice.size_bytes) for each in choices.values()]
    assert loss <= total(smallest)[1] + 1e-9


@given(st.lists(CHOICES, min_size=1, max_size=4), st.integers(0, 2000))
def test_at_most_one_step_of_a_hull_from_the_best_there_is(matrices, more):
    choices = table(*matrices)
    budget = smallest_bytes(choices) + more
    best = min(loss for size, loss in map(total, itertools.product(*choices.values())) if size <= budget)
    largest_step = max(max(c.loss for c in each) - min(c.loss for c in each) for each in choices.values())

    assert total(plan(choices, budget).values())[1] <= best + largest_step + 1e-9
