"""A device in virtual time: batched serving of known requests, step by step, at exactly the costs of a cost model."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from heapq import heappop, heappush

from bise_daemon.scheduler.costs import StepCosts, largest_chunk

from .trace import Beginning, Call


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """A request, its times on one clock, in milliseconds; `inf` where there is no budget.

    Attributes:
        number: unique.
        beginnings: what others leave of its prompt in the cache, the longest first.
    """

    arrived_ms: float
    number: int
    prompt_tokens: int
    answer_tokens: int
    first_token_by_ms: float
    per_token_ms: float
    deadline_ms: float
    beginnings: tuple[Beginning, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, number: int, call: Call, beginnings: Sequence[Beginning]) -> Job:
        """A call of a trace, on the trace's clock."""
        at_ms, budget = call.at_ms, call.budget
        first_by_ms, deadline_ms = at_ms + budget.first_token_ms, at_ms + budget.total_ms
        prompt_tokens = len(call.prompt)
        return cls(
            at_ms,
            number,
            prompt_tokens,
            call.answer_tokens,
            first_by_ms,
            budget.per_token_ms,
            deadline_ms,
            tuple(beginnings),
        )

    def cached_tokens(self, computed: Set[int]) -> int:
        """What need not be computed of its prompt, once those of these jobs are: a perfect cache forgets nothing."""
        return next((each.tokens for each in self.beginnings if not each.held_by.isdisjoint(computed)), 0)

    @property
    def most_cached_tokens(self) -> int:
        """The same, once every earlier job's is computed."""
        return self.beginnings[0].tokens if self.beginnings else 0


@dataclass(frozen=True, slots=True)
class Period:
    """From an idle moment to the next: the jobs served, by arrival; it begins when the first of them arrives."""

    end_ms: float
    jobs: tuple[Job, ...]

    @property
    def begin_ms(self) -> float:
        """When the first job arrived."""
        return self.jobs[0].arrived_ms


@dataclass(slots=True)
class _Row:
    job: Job
    context_tokens: int
    left: int
    last_ms: float = 0.0

    def due_ms(self, pace_ms: float) -> float:
        """When its next token must be there, if each one behind that takes `pace_ms`."""
        return min(self.last_ms + self.job.per_token_ms, self.job.deadline_ms - (self.left - 1) * pace_ms)

    def advance(self, now_ms: float, context_tokens: int) -> bool:
        """A token, and what it added to the cache; whether the budgets hold."""
        self.last_ms, self.left = now_ms, self.left - 1
        self.context_tokens += context_tokens
        return now_ms <= self.job.deadline_ms


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and one way to use it. Prompts take no slot before their first token.

    Attributes:
        slots: rows of a decode step.
        chunk_tokens: the most prompt tokens of a step.
        reserve: decode steps of time kept back for each token still to come; with more, chunks are smaller and answers
            end earlier.
        mixes: a chunk beside rows comes with a token for each of them, in one step.
    """

    costs: StepCosts
    slots: int
    chunk_tokens: int
    reserve: float = 1.0
    mixes: bool = False

    def serve(self, jobs: Sequence[Job], computed: Set[int] = frozenset()) -> list[Period] | None:
        """Serves all jobs (by arrival), earliest due first, prompts as far as the streams' slack allows.

        Args:
            computed: numbers of jobs whose prompts were computed before.

        Returns:
            The busy periods; None as soon as one budget is broken.
        """
        now, coming = 0.0, 0
        done = set(computed)
        prompts: list[tuple[float, Job, _Row]] = []
        rows: list[_Row] = []
        periods: list[Period] = []
        began = 0
        while coming < len(jobs) or prompts or rows:
            if not prompts and not rows:
                now = max(now, jobs[coming].arrived_ms)
            while coming < len(jobs) and jobs[coming].arrived_ms <= now:
                job = jobs[coming]
                heappush(prompts, (self._due_ms(job), job, _Row(job, 0, job.answer_tokens)))
                coming += 1
            if prompts:
                _, job, first = prompts[0]
                first.context_tokens = max(first.context_tokens, job.cached_tokens(done))
            size = self._chunk(now, prompts, rows)
            if size:
                _, job, first = prompts[0]
                served = rows if self.mixes else []
                now += self._chunk_ms(size, first, served)
                first.context_tokens += size
            else:
                served = rows
                now += self._decode_ms(rows)
            for row in served:
                if now - row.last_ms > row.job.per_token_ms or not row.advance(now, 1):
                    return None
            if size and first.context_tokens == job.prompt_tokens:
                heappop(prompts)
                done.add(job.number)
                rows.append(first)
                if now > job.first_token_by_ms or not first.advance(now, 0):
                    return None
            rows = [row for row in rows if row.left]
            if not prompts and not rows and (coming == len(jobs) or jobs[coming].arrived_ms > now):
                periods.append(Period(now, tuple(jobs[began:coming])))
                began = coming
        return periods

    def work_ms(self, job: Job) -> float:
        """What a job takes at the least: whole chunks, and its share of the best decode batch.

        Where it mixes, of what rows add to a chunk, if that is less.
        """
        done, work_ms = job.most_cached_tokens, 0.0
        while done < job.prompt_tokens:
            size = min(job.prompt_tokens - done, self.chunk_tokens)
            work_ms += self.costs.prefill_ms(size, done)
            done += size
        counts = range(1, self.slots + 1)
        shares = [self.costs.decode_ms(rows, rows * job.prompt_tokens) / rows for rows in counts]
        if self.mixes:
            chunk_ms = self.costs.prefill_ms(1, 0)
            shares += [(self.costs.mixed_ms(1, 0, rows, rows * job.prompt_tokens) - chunk_ms) / rows for rows in counts]
        return work_ms + (job.answer_tokens - 1) * min(shares)

    def _due_ms(self, job: Job) -> float:
        pace_ms = self.reserve * self.costs.decode_ms(1, job.prompt_tokens)
        return min(job.first_token_by_ms, job.deadline_ms - job.answer_tokens * pace_ms)

    def _decode_ms(self, rows: Sequence[_Row]) -> float:
        return self.costs.decode_ms(len(rows), sum(row.context_tokens for row in rows))

    def _chunk(self, now_ms: float, prompts: Sequence[tuple[float, Job, _Row]], rows: Sequence[_Row]) -> int:
        """The prompt tokens to run now; 0 to decode."""
        if not prompts or len(rows) == self.slots:
            return 0
        _, job, first = prompts[0]
        most = min(self.chunk_tokens, job.prompt_tokens - first.context_tokens)
        if not rows:
            return most
        step_ms = self._decode_ms([*rows, first])  # which it may be one of, once its prompt has ended
        room_ms = min(row.due_ms(self.reserve * step_ms) for row in rows) - now_ms - step_ms
        if not self.mixes:
            return largest_chunk(lambda tokens: self._chunk_ms(tokens, first, []), room_ms, most)
        alone_ms = self._decode_ms(rows)
        return largest_chunk(lambda tokens: self._chunk_ms(tokens, first, rows) - alone_ms, room_ms, most)

    def _chunk_ms(self, tokens: int, first: _Row, rows: Sequence[_Row]) -> float:
        if not rows:
            return self.costs.prefill_ms(tokens, first.context_tokens)
        context_tokens = sum(row.context_tokens for row in rows)
        return self.costs.mixed_ms(tokens, first.context_tokens, len(rows), context_tokens)
