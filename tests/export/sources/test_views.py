"""Weights seen in another way than they are stored."""

from __future__ import annotations

import numpy as np
import pytest

from bise_export.sources.views import Rows, Stacked
from golden.in_memory import InMemory

WHOLE = np.arange(60, dtype=np.float32).reshape(12, 5)


@pytest.fixture
def stacked():
    whole = InMemory(WHOLE)
    return Stacked([Rows(whole, 0, (3, 5)), Rows(whole, 3, (1, 5)), Rows(whole, 4, (8, 5))])


def test_pieces_are_one_below_the_other(stacked):
    assert stacked.shape == (12, 5)
    np.testing.assert_array_equal(stacked.rows(0, 12), WHOLE)


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (1, 3), (2, 4), (3, 4), (2, 11), (5, 6)])
def test_only_pieces_that_have_such_rows_are_read(stacked, start, stop):
    np.testing.assert_array_equal(stacked.rows(start, stop), WHOLE[start:stop])
