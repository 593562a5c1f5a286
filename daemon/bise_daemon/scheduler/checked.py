"""A scheduler that proves its state around every step."""

from __future__ import annotations

from collections.abc import Mapping

from bise_daemon.scheduler.request import Ending
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Outcome, StepPlan


class CheckedScheduler(Scheduler):
    """The scheduler, and an AssertionError as soon as its state makes no sense; python's -O takes the checks away."""

    def plan(self, now: float) -> StepPlan:
        """As `Scheduler.plan`; what came between two steps is checked before, what was decided after."""
        self.check_integrity()
        plan = super().plan(now)
        self.check_integrity()
        return plan

    def commit(self, plan: StepPlan, outcomes: Mapping[str, Outcome], now: float) -> dict[str, Ending]:
        """As `Scheduler.commit`."""
        endings = super().commit(plan, outcomes, now)
        self.check_integrity()
        return endings
