"""Tokens of cache in the memory at hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.memory.fit import kv_budget_tokens

_MIB = 1 << 20


@pytest.mark.parametrize(
    ("available_bytes", "tokens"),
    [(0, 0), (256 * _MIB, 0), (256 * _MIB + 999, 0), (256 * _MIB + 1000, 1), (10_000 * _MIB, 9_000 * _MIB // 1000)],
)
def test_a_reserve_is_left_to_the_system(available_bytes: int, tokens: int) -> None:
    assert kv_budget_tokens(available_bytes, 1000, 1 << 40) == tokens


def test_it_is_never_more_than_there_are_slots_for() -> None:
    assert kv_budget_tokens(1 << 40, 1000, 4096) == 4096


@given(st.integers(0, 1 << 44), st.integers(1, 1 << 22), st.integers(1, 1 << 28))
def test_what_is_promised_fits(available_bytes: int, bytes_per_token: int, most_tokens: int) -> None:
    tokens = kv_budget_tokens(available_bytes, bytes_per_token, most_tokens)
    assert 0 <= tokens <= most_tokens
    assert tokens * bytes_per_token <= available_bytes
