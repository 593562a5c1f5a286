"""A device in virtual time: a real scheduler, steps that take what a formula says, and a cache that is believed in."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.request import Ending, Request
from bise_daemon.scheduler.scheduler import Scheduler
from bise_daemon.scheduler.step import Copy, Decode, Mixed, Outcome, Prefill, Release, Settle, StepPlan, Verify, Work

_NOTHING_READ = 1
_PRIME = (1 << 61) - 1
# What an answer's tokens leave in the cache where that is not what a prompt's would (`Limits.one_way`).
_ANSWER = 1 << 32


@dataclass(frozen=True, slots=True)
class LinearCosts:
    """`StepCosts` by plain formulas. The defaults are near SmolLM2's on two cores, with an int8 cache.

    Attributes:
        base_ms: of any step.
        token_ms: of each prompt token.
        row_ms: of each row of a decode step.
        entry_ms: of each cache entry that a row or a token reads.
        logits_ms: of each row of logits after the first.
        copied_ms: of each token copied.
    """

    base_ms: float = 3.0
    token_ms: float = 0.75
    row_ms: float = 1.0
    entry_ms: float = 0.001
    logits_ms: float = 0.1
    copied_ms: float = 0.001
    margin: float = 1.0

    def prefill_ms(self, tokens: int, context_tokens: int) -> float:
        return self.base_ms + self.token_ms * tokens + self.entry_ms * tokens * (context_tokens + tokens / 2)

    def decode_ms(self, rows: int, context_tokens: int) -> float:
        return self.base_ms + self.row_ms * rows + self.entry_ms * context_tokens

    def mixed_ms(self, tokens: int, context_tokens: int, rows: int, rows_context_tokens: int) -> float:
        alone_ms = self.prefill_ms(tokens, context_tokens)
        return alone_ms + self.token_ms * rows + self.entry_ms * rows_context_tokens

    def verify_ms(self, tokens: int, context_tokens: int) -> float:
        return self.prefill_ms(tokens, context_tokens) + self.logits_ms * (tokens - 1)

    def copy_ms(self, tokens: int) -> float:
        return self.copied_ms * tokens


class Noise:
    """Factors of step times: log-normal around 1, the same for the same seed."""

    def __init__(self, seed: int, sigma: float) -> None:
        self._random = random.Random(seed)
        self._sigma = sigma

    def __call__(self) -> float:
        return math.exp(self._random.gauss(0.0, self._sigma))


def quiet() -> float:
    """The noise of a device that has none."""
    return 1.0


class Script:
    """The scripted model: the one token that may follow, other for every prefix.

    Args:
        choices: how many different tokens it knows; few make guesses come true.
        dictated: tokens that a format leaves no choice about, at most, behind one that is sampled.
    """

    def __init__(self, choices: int = 96, dictated: int = 0) -> None:
        self._choices = choices
        self._dictated = dictated

    def dictated(self, entry: int) -> int:
        """How many tokens are dictated behind one whose entry this is; they are those it would have said."""
        return entry % (self._dictated + 1)

    def next_token(self, entry: int) -> int:
        """The token after the prefix that `entry` ends."""
        return 3 + entry % self._choices

    def answer(self, prompt: Sequence[int], count: int, *, one_way: bool = True) -> list[int]:
        """What it says to `prompt` when it is alone."""
        tokens: list[int] = []
        entry = entries_of(prompt)[-1]
        for _ in range(count):
            tokens.append(self.next_token(entry))
            entry = _entry(entry, tokens[-1] + _part(one_way))
        return tokens


def _part(one_way: bool) -> int:
    return 0 if one_way else _ANSWER


def _entry(before: int, token: int) -> int:
    """A cache entry. As a key or a value does, it depends on its token and on all before."""
    return (before * 1_000_003 + token + 1) % _PRIME


def entries_of(tokens: Iterable[int]) -> list[int]:
    """The cache entries of tokens from the first position on."""
    return list(accumulate(tokens, _entry, initial=_NOTHING_READ))[1:]


class BelievedCache:
    """What each slot holds. Writing below the end of a slot makes the rest of it worthless, as in the real one."""

    def __init__(self, slots: int, context_tokens: int) -> None:
        self.slots: list[list[int]] = [[] for _ in range(slots)]
        self._context_tokens = context_tokens

    def copy(self, copy: Copy) -> None:
        """Brings entries from slot to slot."""
        assert copy.source != copy.target, copy
        assert 0 < copy.tokens <= len(self.slots[copy.source]), f"{copy} of {len(self.slots[copy.source])} entries"
        self.slots[copy.target] = self.slots[copy.source][: copy.tokens]

    def release(self, release: Release) -> None:
        """Forgets what lies beyond."""
        del self.slots[release.slot][release.tokens :]

    def write(self, slot: int, start: int, tokens: Iterable[int]) -> int:
        """Computes entries behind those that are there; returns the last."""
        held = self.slots[slot]
        assert start <= len(held), f"slot {slot} holds {len(held)} entries, so there is a gap before {start}"
        entries = list(accumulate(tokens, _entry, initial=held[start - 1] if start else _NOTHING_READ))
        held[start:] = entries[1:]
        assert len(held) <= self._context_tokens, f"slot {slot} has no room for {len(held)} entries"
        return entries[-1]

    def write_filler(self, slot: int, position: int) -> None:
        """Writes an entry that nobody may read."""
        assert 0 <= position < self._context_tokens, f"a filler writes at {position} of slot {slot}"
        del self.slots[slot][position:]


@dataclass(slots=True)
class Journey:
    """What became of a request; moments are on the device's clock.

    Attributes:
        gaps_ms: between one token and the next; tokens of one step have none between them.
        entries: of prompt and output, as they must be.
    """

    request: Request
    stops_after: int | None
    entries: list[int] = field(repr=False)
    first_token_ms: float | None = None
    last_token_ms: float = 0.0
    gaps_ms: list[float] = field(default_factory=list, repr=False)
    ended_ms: float | None = None
    ending: Ending | None = None

    @property
    def longest_gap_ms(self) -> float:
        """0 without two tokens."""
        return max(self.gaps_ms, default=0.0)

    @property
    def late_ms(self) -> float:
        """By how much it missed what was promised it, where worst; infinite without its first token or its end."""
        request, nowhere = self.request, math.inf
        first_ms = nowhere if self.first_token_ms is None else self.first_token_ms
        ended_ms = nowhere if self.ended_ms is None or self.ending is Ending.DEADLINE else self.ended_ms
        promises = (
            (request.first_token_by_ms, first_ms),
            (request.per_token_ms, self.longest_gap_ms),
            (request.deadline_ms if request.promised else None, ended_ms),
        )
        return max((it_ms - promised_ms for promised_ms, it_ms in promises if promised_ms is not None), default=0.0)


class VirtualDevice:
    """Drives a scheduler as the engine does, and checks every plan against a cache it believes in.

    Args:
        costs: what steps take here, whatever the scheduler expects.
        noise: factor of each step's time.
        script: the model.

    Attributes:
        now: its clock, in milliseconds.
        journeys: of all requests ever submitted, by id.
        steps: how many ran, by kind of work; given up ones not.
        planned: called with each plan, before anything of it is done.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        costs: StepCosts | None = None,
        noise: Callable[[], float] = quiet,
        script: Script | None = None,
    ) -> None:
        limits = scheduler.limits
        self.scheduler = scheduler
        self.costs: StepCosts = scheduler.costs if costs is None else costs
        self.script = Script() if script is None else script
        self.cache = BelievedCache(limits.all_slots, limits.context_tokens)
        self.now = 0.0
        self.journeys: dict[str, Journey] = {}
        self.steps: Counter[type[Work]] = Counter()
        self.planned: Callable[[StepPlan], object] = lambda plan: None
        self._noise = noise
        self._part = _part(limits.one_way)

    def submit(self, request: Request, stops_after: int | None = None) -> Journey:
        """Hands a request to the scheduler.

        Args:
            stops_after: tokens after which its answer ends by its content; None is never.
        """
        assert request.id not in self.journeys, request.id
        journey = self.journeys[request.id] = Journey(request, stops_after, entries_of(request.prompt))
        self.scheduler.submit(request)
        return journey

    def pin(self, slot: int, tokens: Sequence[int]) -> None:
        """Computes a prefix into a spare slot, as at a start."""
        self.cache.write(slot, 0, tokens)
        self.scheduler.pin(slot, tokens)

    def abort(self, request_id: str) -> None:
        """Ends a request that has not ended."""
        assert self.scheduler.abort(request_id), request_id
        self._end(request_id, Ending.ABORTED)

    def serve(self, requests: Iterable[Request]) -> Mapping[str, Journey]:
        """Submits each request once its time of arrival has come, and runs until all have ended."""

        def arrival(request: Request) -> tuple[float, Callable[[], object]]:
            return request.arrived_ms, lambda: self.submit(request)

        self.run(map(arrival, requests))
        return self.journeys

    def run(self, happenings: Iterable[tuple[float, Callable[[], object]]] = ()) -> None:
        """Runs until nothing is left to do.

        Args:
            happenings: moments, and what is called between two steps once they have come.
        """
        for moment, happen in sorted(happenings, key=lambda each: each[0]):
            while self.now < moment and self.scheduler.has_work:
                self.step(until_ms=moment)
            self.now = max(self.now, moment)
            happen()
        while self.scheduler.has_work:
            self.step()

    def step(self, *, give_up: bool = False, failing: Collection[str] = (), until_ms: float = math.inf) -> Work | None:
        """Plans a step and runs it.

        Args:
            until_ms: when somebody comes for whom what nobody waits for is given up.
            give_up: it is interrupted when it is nearly through, so that nothing is committed.
            failing: requests that break when they sample.

        Returns:
            What ran.
        """
        plan = self.scheduler.plan(self.now)
        self.planned(plan)
        for request_id in plan.expired:
            self._end(request_id, Ending.DEADLINE)
        for copy in plan.copies:
            self.cache.copy(copy)
            self.now += self.costs.copy_ms(copy.tokens) * self._noise()
        for release in plan.releases:
            self.cache.release(release)
        if plan.work is None:
            return None
        sampling = self._compute(plan.work)
        self.now += self._took_ms(plan.work) * self._noise()
        if isinstance(plan.work, Settle) and self.now > until_ms:
            self.now, give_up = until_ms, True
        if give_up:
            return plan.work
        self.steps[type(plan.work)] += 1
        outcomes = {}
        for request_id, guesses in sampling.items():
            if request_id in failing:
                self.abort(request_id)
            else:
                outcomes[request_id] = self._sample(self.journeys[request_id], guesses)
        for request_id, ending in self.scheduler.commit(plan, outcomes, self.now).items():
            self._end(request_id, ending)
        return plan.work

    def _compute(self, work: Work) -> Mapping[str, Sequence[int]]:
        """Writes the cache; returns who samples, and guesses of what."""
        match work:
            case Prefill(request_id=request_id, slot=slot, start=start, tokens=tokens, samples=samples):
                assert tokens, work
                end = start + len(tokens)
                entries = self.journeys[request_id].entries
                assert self.cache.write(slot, start, tokens) == entries[end - 1], f"{work}: not its own tokens"
                assert samples == (end == len(entries) and self.journeys[request_id].request.max_tokens > 0), work
                return {request_id: ()} if samples else {}
            case Settle(slot=slot, start=start, tokens=tokens):
                assert tokens, work
                self.cache.write(slot, start, tokens)
                return {}
            case Verify(request_id=request_id, slot=slot, start=start, tokens=tokens, guesses=guesses):
                assert tokens, work
                assert len(tokens) + len(guesses) >= 2, work
                assert len(tokens) <= max(1, self.scheduler.limits.known_tokens), work
                entries, end = self.journeys[request_id].entries, start + len(tokens)
                assert work.samples == (end == len(entries)), work
                assert work.samples or not guesses, work
                assert self.cache.write(slot, start, self._answered(tokens)) == entries[end - 1], (
                    f"{work}: not its own tokens"
                )
                self.cache.write(slot, end, self._answered(guesses))
                return {request_id: guesses} if work.samples else {}
            case Decode(first_slot=first_slot, rows=rows):
                assert rows[0].request_id is not None, work
                assert rows[-1].request_id is not None, work
                for slot, row in enumerate(rows, first_slot):
                    if row.request_id is None:
                        self.cache.write_filler(slot, row.position)
                        continue
                    journey = self.journeys[row.request_id]
                    entries = journey.entries
                    assert row.samples == (row.position == len(entries) - 1 and journey.request.max_tokens > 0), row
                    last = self.cache.write(slot, row.position, self._answered((row.token,)))
                    assert last == entries[row.position], f"{row}: not its own tokens"
                return {row.request_id: () for row in rows if row.request_id is not None and row.samples}
            case Mixed(chunk=chunk, rows=rows):
                assert self.scheduler.limits.mixes, work
                return {**self._compute(chunk), **self._compute(rows)}

    def _took_ms(self, work: Work) -> float:
        match work:
            case Prefill(start=start, tokens=tokens) | Settle(start=start, tokens=tokens):
                return self.costs.prefill_ms(len(tokens), start)
            case Verify(start=start, tokens=tokens, guesses=guesses):
                return self.costs.verify_ms(len(tokens) + len(guesses), start)
            case Decode(rows=rows):
                return self.costs.decode_ms(len(rows), sum(row.position for row in rows))
            case Mixed(chunk=chunk, rows=Decode(rows=rows)):
                context = sum(row.position for row in rows)
                return self.costs.mixed_ms(len(chunk.tokens), chunk.start, len(rows), context)

    def _answered(self, tokens: Iterable[int]) -> list[int]:
        """Tokens as a step of answers writes them; a prompt's may be among them where there is one way only."""
        return [token + self._part for token in tokens]

    def _sample(self, journey: Journey, guesses: Sequence[int]) -> Outcome:
        request, tokens = journey.request, list[int]()
        stopped, held = False, 0
        while not stopped and held == len(tokens):
            dictated = self.script.dictated(journey.entries[-1])
            for _ in range(min(1 + dictated, request.left_to_generate - len(tokens))):
                tokens.append(self.script.next_token(journey.entries[-1]))
                journey.entries.append(_entry(journey.entries[-1], tokens[-1] + self._part))
                stopped = len(request.output) + len(tokens) == journey.stops_after
                if stopped:
                    break
            while held < min(len(guesses), len(tokens) - stopped) and guesses[held] == tokens[held]:
                held += 1
        if journey.first_token_ms is None:
            journey.first_token_ms = self.now
        else:
            journey.gaps_ms.append(self.now - journey.last_token_ms)
        journey.last_token_ms = self.now
        return Outcome(tokens, stopped, len(tokens) - 1 - held)

    def _end(self, request_id: str, ending: Ending) -> None:
        journey = self.journeys[request_id]
        assert journey.ending is None, f"{request_id} ended twice"
        journey.ended_ms, journey.ending = self.now, ending
