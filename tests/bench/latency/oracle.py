"""The oracle: how many requests of a trace could have met their budgets, had all arrivals and costs been known.

The true optimum is out of reach (one machine with release times and deadlines is already NP-hard), so this is the best
of several clairvoyant heuristics, each checked by exact simulation: a lower bound of the optimum, with `upper_bound`
above it. Assumed, all in the oracle's favour: steps take exactly what the costs say; only those requests are begun that
will be served whole; the cache forgets nothing that was ever computed; prompts take no slot; deciding takes no time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain

from .clairvoyant import Device, Job, Period

# Ways to share the device between prompts and streams; which is best depends on how tight which budgets are.
_RESERVES = (1.0, 1.5, 2.5)
# The local search stops by itself when no exchange helps; this bounds its time on long traces.
_MOST_EXCHANGES = 2000


@dataclass(frozen=True, slots=True)
class Best:
    """The best schedule found.

    Attributes:
        numbers: the requests that meet their budgets in it.
        upper_bound: no schedule serves more.
    """

    numbers: frozenset[int]
    upper_bound: int


def best_found(jobs: Iterable[Job], device: Device) -> Best:
    """The largest set of jobs that some heuristic could serve within all their budgets."""
    everybody = sorted(jobs)
    numbers = {job.number for job in everybody}
    able = [job for job in everybody if device.serve([job], numbers) is not None]
    work_ms = {job: device.work_ms(job) for job in able}
    found: list[Schedule] = []
    for reserve in _RESERVES:
        way = replace(device, reserve=reserve)
        for order in (work_ms.__getitem__, _deadline_ms, _arrived_ms):
            schedule = Schedule(way, work_ms)
            for job in sorted(able, key=order):
                _ = schedule.add(job) or schedule.exchange(job)
            schedule.improve(able)
            found.append(schedule)
    best = max(found, key=lambda schedule: schedule.score)
    return Best(frozenset(job.number for job in best.jobs), upper_bound(work_ms))


def upper_bound(work_ms: dict[Job, float]) -> int:
    """As many of the smallest jobs as fit between the first arrival and the last deadline, back to back."""
    if not work_ms:
        return 0
    left_ms = max(job.deadline_ms for job in work_ms) - min(job.arrived_ms for job in work_ms)
    for count, work in enumerate(sorted(work_ms.values())):
        left_ms -= work
        if left_ms < 0:
            return count
    return len(work_ms)


class Schedule:
    """Jobs that can all be served in time. Adding one touches its busy period only, and those it grows into."""

    def __init__(self, device: Device, work_ms: dict[Job, float]) -> None:
        self._device = device
        self._work_ms = work_ms
        self._periods: list[Period] = []

    @property
    def jobs(self) -> list[Job]:
        """By arrival."""
        return list(chain.from_iterable(period.jobs for period in self._periods))

    @property
    def score(self) -> tuple[int, float]:
        """Jobs served; of equal ones, less work is better."""
        return len(self.jobs), -sum(self._work_ms[job] for job in self.jobs)

    def add(self, job: Job, without: Job | None = None) -> bool:
        """Takes a job in, in place of another one if it is named; False if it can't be."""
        return self._replan(job, {job}, {without})

    def _replan(self, at: Job, jobs: set[Job], without: Set[Job | None]) -> bool:
        """Serves anew what a change at a job's arrival touches: its busy period, and those it grows into."""
        first, behind = self._reach(at)
        jobs = jobs.union(*(period.jobs for period in self._periods[first:behind])) - without
        computed = {job.number for job in chain(*(period.jobs for period in self._periods[:first]))}
        while (served := self._device.serve(sorted(jobs), computed)) is not None:
            coming = self._periods[behind : behind + 1]
            if not served or not coming or served[-1].end_ms <= coming[0].begin_ms:
                periods = [*self._periods[:first], *served, *self._periods[behind:]]
                if self._relied_on(without, periods):
                    return False
                self._periods = periods
                return True
            jobs |= set(coming[0].jobs) - without
            behind += 1
        return False

    def _relied_on(self, without: Set[Job | None], periods: Sequence[Period]) -> bool:
        """Whether somebody who stays found in the cache what one of these would have left."""
        gone = {job.number for job in without if job is not None}
        staying = [job for period in periods for job in period.jobs]
        numbers = {job.number for job in staying}
        return bool(gone) and any(job.cached_tokens(numbers) < job.cached_tokens(numbers | gone) for job in staying)

    def exchange(self, job: Job) -> bool:
        """Takes a job in for the costliest one around it that can be spared for it (as Moore and Hodgson do)."""
        costlier = [one for one in self._rivals(job) if self._work_ms[one] > self._work_ms[job]]
        return any(self.add(job, without=one) for one in sorted(costlier, key=self._work_ms.__getitem__, reverse=True))

    def improve(self, able: Sequence[Job]) -> None:
        """Exchanges as long as jobs are won or work is saved."""
        for _ in range(_MOST_EXCHANGES):
            left = sorted(set(able) - set(self.jobs), key=self._work_ms.__getitem__)
            if not (
                any(self.add(job) or self.exchange(job) for job in left)
                or any(self._two_for(job, left) for job in self.jobs)
            ):
                return

    def _two_for(self, job: Job, left: Sequence[Job]) -> bool:
        """Gives a job up if two others can be served then."""
        before = list(self._periods)
        if self._replan(job, set(), {job}) and sum(self.add(one) for one in left if _meet(one, job)) >= 2:
            return True
        self._periods = before
        return False

    def _reach(self, job: Job) -> tuple[int, int]:
        """The busy period under way when the job arrives, as a range of periods; an empty one in an idle moment."""
        first = bisect_right(self._periods, job.arrived_ms, key=lambda period: period.end_ms)
        under_way = first < len(self._periods) and self._periods[first].begin_ms <= job.arrived_ms
        return first, first + under_way

    def _rivals(self, job: Job) -> list[Job]:
        """The jobs served that could be under way at the same time."""
        first, _ = self._reach(job)
        behind = bisect_left(self._periods, job.deadline_ms, key=lambda period: period.begin_ms)
        return [one for period in self._periods[first:behind] for one in period.jobs if _meet(one, job)]


def _meet(one: Job, other: Job) -> bool:
    return one.arrived_ms < other.deadline_ms and other.arrived_ms < one.deadline_ms


def _arrived_ms(job: Job) -> float:
    return job.arrived_ms


def _deadline_ms(job: Job) -> float:
    return job.deadline_ms
