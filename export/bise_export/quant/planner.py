"""The mixed-precision planner: which format for which matrix, so that all fit a size and the expected loss is least.

Pure: it knows sizes and losses, no weights. Minimizing a sum of losses under a sum of bytes is a knapsack; with many
matrices, none of which is much of the whole, walking down each matrix's convex hull by the loss saved per byte is
optimal but for the last step (Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bise_export.quant.formats import Format


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to store a matrix.

    Attributes:
        loss: what that is expected to cost; losses of all matrices add up.
    """

    format: Format
    size_bytes: int
    loss: float


def smallest_bytes(choices: Mapping[str, Sequence[Choice]]) -> int:
    """The least that all matrices together can take."""
    return sum(min(choice.size_bytes for choice in each) for each in choices.values())


def plan(choices: Mapping[str, Sequence[Choice]], budget_bytes: int) -> dict[str, Choice]:
    """The choice for each matrix: of at most `budget_bytes` together, which must be `smallest_bytes` at least.

    The greedy walk ends at the first step on a hull that no longer fits. What is left then goes to whatever single
    change saves most, on the hull or not, until none fits: so little of the budget is lost.
    """
    chosen = {name: min(each, key=_by_size) for name, each in choices.items()}
    left_bytes = budget_bytes - sum(choice.size_bytes for choice in chosen.values())
    assert left_bytes >= 0, (budget_bytes, left_bytes)
    steps = [(_worth(*step), name, step[1]) for name, each in choices.items() for step in _hull_steps(each)]
    for _, name, better in sorted(steps, key=lambda step: -step[0]):  # a hull's own steps are worth less and less
        cost_bytes = better.size_bytes - chosen[name].size_bytes
        if cost_bytes > left_bytes:
            break
        chosen[name], left_bytes = better, left_bytes - cost_bytes
    while changes := [
        (chosen[name].loss - other.loss, name, other)
        for name, each in choices.items()
        for other in each
        if other.loss < chosen[name].loss and other.size_bytes - chosen[name].size_bytes <= left_bytes
    ]:
        _, name, better = max(changes, key=lambda change: change[0])
        left_bytes -= better.size_bytes - chosen[name].size_bytes
        chosen[name] = better
    return chosen


def _hull_steps(choices: Sequence[Choice]) -> list[tuple[Choice, Choice]]:
    """The steps down the lower convex hull of loss over bytes, from the smallest choice on."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=_by_size):
        if hull and choice.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _worth(hull[-2], hull[-1]) <= _worth(hull[-1], choice):
            hull.pop()
        hull.append(choice)
    return list(pairwise(hull))


def _worth(smaller: Choice, better: Choice) -> float:
    """The loss that each byte more saves."""
    return (smaller.loss - better.loss) / (better.size_bytes - smaller.size_bytes)


def _by_size(choice: Choice) -> tuple[int, float]:
    return choice.size_bytes, choice.loss
