"""How a daemon's status went on: rates, from one look to the next."""

from __future__ import annotations

from collections import deque

from bise.types import Status

_LOOKS = 60


class Course:
    """The latest looks at one daemon.

    Attributes:
        status: the last of them.
        answered, prompted, stepped: tokens of answers, tokens of prompts and steps a second, lately; the last is now.
    """

    def __init__(self) -> None:
        self.status: Status | None = None
        self.answered: deque[float] = deque(maxlen=_LOOKS)
        self.prompted: deque[float] = deque(maxlen=_LOOKS)
        self.stepped: deque[float] = deque(maxlen=_LOOKS)

    def look(self, status: Status) -> None:
        """Takes in the next status. A daemon that started anew since has no rates before its second look."""
        before, self.status = self.status, status
        rates = (self.answered, self.prompted, self.stepped)
        if before is None or (took_s := status.uptime_s - before.uptime_s) <= 0 or status.steps < before.steps:
            for rate in rates:
                rate.clear()
            return
        for rate, field in zip(rates, ("completion_tokens", "prompt_tokens", "steps"), strict=True):
            rate.append((getattr(status, field) - getattr(before, field)) / took_s)
