"""The shapes, and the budgets that follow from solo times."""

from __future__ import annotations

import pytest

from bench.latency.shapes import SHAPES, Allowance, Solo, largest_context


def test_shapes_are_those_of_the_issue() -> None:
    assert {shape.name: (shape.prompt_tokens(shape.later_turns), shape.answer_tokens) for shape in SHAPES} == {
        "quick FAQ": (500, 150),
        "document summary": (4000, 500),
        "code generation": (1000, 800),
        "function calling": (2000, 200),
        "multi-turn chat": (8000, 300),
    }
    assert sum(shape.weight for shape in SHAPES) == pytest.approx(1)
    assert largest_context(SHAPES) == 8300


def test_a_scaled_shape_keeps_its_parts() -> None:
    chat = SHAPES[-1].scaled(1 / 8)
    assert chat.prompt_tokens(2) == pytest.approx(1000, abs=5)
    tiny = SHAPES[-1].scaled(1e-6)
    assert min(tiny.shared_tokens, tiny.own_tokens, tiny.answer_tokens, tiny.turn_tokens) == 4
    assert SHAPES[1].scaled(1 / 8).shared_tokens == 0


def test_a_budget_has_a_floor_and_follows_slow_devices() -> None:
    allowance = Allowance()
    quick = allowance.budget(Solo(first_token_ms=10, per_token_ms=5, total_ms=100))
    assert (quick.first_token_ms, quick.per_token_ms, quick.total_ms) == (300, 50, 550)
    long_prompt = allowance.budget(Solo(first_token_ms=1000, per_token_ms=5, total_ms=1020))
    assert long_prompt.first_token_ms == long_prompt.total_ms == 2850
    slow = allowance.budget(Solo(first_token_ms=2000, per_token_ms=500, total_ms=12000))
    assert (slow.first_token_ms, slow.per_token_ms, slow.total_ms) == (6000, 1500, 30300)
