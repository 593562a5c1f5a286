"""How a caller behaves. Pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..latency.shapes import Budget


class Manner(StrEnum):
    """How a caller takes its leave."""

    STAYS = "reads to the end"
    CANCELS = "cancels its call"
    HANGS_UP = "closes its connection"
    IS_CUT = "is cut off"


# A third leaves: of the three ways, each comes hundreds of times in half an hour.
_MANNERS = {Manner.STAYS: 0.67, Manner.CANCELS: 0.13, Manner.HANGS_UP: 0.10, Manner.IS_CUT: 0.10}
_PRIORITIES = {"interactive": 0.6, "critical": 0.15, "background": 0.25}
_STATED: dict[tuple[str, ...], float] = {
    ("timeout", "first_token_timeout", "per_token_timeout"): 0.5,
    ("timeout",): 0.2,
    (): 0.3,
}
_ON_EXPIRY = {"partial": 0.8, "fail": 0.2}
_TEMPERATURES = {0.0: 0.6, 0.8: 0.4}


@dataclass(frozen=True, slots=True)
class Conduct:
    """What one caller does with a request.

    Attributes:
        patience: when it leaves, as a share of its budget's total: in the queue, in the prompt, or in the answer.
        options: of the SDK; those that state a budget are named in `stated`.
    """

    manner: Manner
    patience: float
    stated: tuple[str, ...]
    options: Mapping[str, Any]

    def options_for(self, budget: Budget) -> dict[str, Any]:
        """All options of a call that could state this budget."""
        seconds = {
            "timeout": budget.total_ms / 1e3,
            "first_token_timeout": budget.first_token_ms / 1e3,
            "per_token_timeout": budget.per_token_ms / 1e3,
        }
        return {**self.options, **{name: seconds[name] for name in self.stated}}


def conducts(seed: str) -> Iterator[Conduct]:
    """One caller after the other, for ever."""
    draw = random.Random(f"{seed} conducts")

    def one(shares: Mapping[Any, float]) -> Any:
        return draw.choices(list(shares), list(shares.values()))[0]

    while True:
        options = {
            "priority": one(_PRIORITIES),
            "on_expiry": one(_ON_EXPIRY),
            "temperature": one(_TEMPERATURES),
            "seed": draw.getrandbits(32),
            "ignore_eos": True,
        }
        # Half of the budget is a little more than the time alone: most leave before their answer is whole.
        yield Conduct(one(_MANNERS), draw.uniform(0, 0.5), one(_STATED), options)
