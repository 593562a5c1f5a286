"""Admission: what a request is granted, or why it is refused, decided at once from plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from bise_daemon.errors import Reason, RequestError
from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.forecast import Forecast, Standing, forecast
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Priority

# A queue that is full empties at the pace of whole answers, not of steps; the governor recovers in about ten seconds.
_RETRY_QUEUE_MS = 1000
_RETRY_MEMORY_MS = 10_000
# Fewer tokens take less time nearly in proportion, so the second attempt at a smaller grant is the last one needed.
_SHRINKINGS = 2

_CANDIDATE = ""
_LAST_TURN = 1 << 62


@dataclass(frozen=True, slots=True)
class Capacity:
    """What can be promised now.

    Attributes:
        limits: the scheduler's, with the memory there is now.
        context_limit: tokens one request may hold now, prompt and answer together.
        vocab_size: of the model.
        most_open_requests: served and queued together.
    """

    limits: Limits
    context_limit: int
    vocab_size: int
    most_open_requests: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for; times are on the engine's clock.

    Attributes:
        prompt_tokens: how many.
        cached_tokens: how many of them are in the cache.
        max_tokens: as asked for; None is as many as fit.
        least_tokens: granting fewer is refusing; None is `max_tokens` where the answer must be whole, else 1.
        whole: an answer cut short is worth nothing (`FAIL`).
        total_ms: stated budget, from arrival; None is none. So are the other two.
        shortest_tokens: of an answer that its format allows; a grant of fewer could leave one that is not whole.
    """

    prompt_tokens: int
    cached_tokens: int
    max_tokens: int | None
    least_tokens: int | None
    whole: bool
    priority: Priority
    arrived_ms: float
    deadline_ms: float
    total_ms: float | None
    first_token_ms: float | None
    per_token_ms: float | None
    shortest_tokens: int = 1

    @property
    def states_budget(self) -> bool:
        """Whether there is a promise to keep."""
        return (self.total_ms, self.first_token_ms, self.per_token_ms) != (None, None, None)

    @property
    def must_fit_tokens(self) -> int:
        """Tokens of the answer that the context must have room for, whatever time allows."""
        return max(self.least_tokens or 1, self.shortest_tokens)

    def least_answer(self, room_tokens: int) -> int:
        """Granting fewer tokens than this is refusing; `room_tokens` is how many there is room for."""
        least = self.least_tokens or (room_tokens if self.whole and self.max_tokens is not None else 1)
        return max(least, self.shortest_tokens)

    def kept_by(self, first_token_ms: float, longest_gap_ms: float, total_ms: float) -> bool:
        """Whether an answer with these times kept the stated budgets."""
        took = ((self.first_token_ms, first_token_ms), (self.per_token_ms, longest_gap_ms), (self.total_ms, total_ms))
        return all(allowed_ms is None or took_ms <= allowed_ms for allowed_ms, took_ms in took)


@dataclass(frozen=True, slots=True)
class Margins:
    """What predictions are multiplied by before they are promised: how wrong they have been."""

    first_token: float
    total: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request is promised; predictions count from its arrival and are expected values, without margin.

    Attributes:
        aim_ms: when a promised total's answer should be complete, on the engine's clock: before its deadline by the
            margin of predictions.
    """

    max_tokens: int
    predicted_first_token_ms: float
    predicted_total_ms: float
    aim_ms: float | None = None

    def predicted_ms(self, tokens: int) -> float:
        """The total predicted for an answer that ended after fewer tokens."""
        decoding_ms = self.predicted_total_ms - self.predicted_first_token_ms
        return self.predicted_first_token_ms + decoding_ms * (tokens - 1) / max(1, self.max_tokens - 1)


def check_queue(capacity: Capacity, open_requests: int) -> None:
    """Refuses what would wait too long; asked before a prompt is worth tokenizing.

    Args:
        open_requests: admitted before and not yet ended.

    Raises:
        RequestError: QUEUE_FULL.
    """
    if open_requests >= capacity.most_open_requests:
        raise RequestError(
            Reason.QUEUE_FULL,
            f"{open_requests} requests are open; expected fewer than {capacity.most_open_requests}. Try again shortly.",
            numbers={"open_requests": open_requests, "most_open_requests": capacity.most_open_requests},
            retry_after_ms=_RETRY_QUEUE_MS,
        )


def check_format(max_tokens: int | None, shortest_tokens: int) -> None:
    """Refuses a format that can't be kept to its end within `max_tokens`.

    Raises:
        RequestError: INVALID_OPTION.
    """
    if max_tokens is not None and max_tokens < shortest_tokens:
        raise RequestError(
            Reason.INVALID_OPTION,
            f"max_tokens: expected at least {shortest_tokens}, the shortest answer found that the format allows, "
            f"got {max_tokens}. Allow more tokens.",
            numbers={"field": "max_tokens", "max_tokens": max_tokens, "shortest_tokens": shortest_tokens},
        )


def check_prompt(capacity: Capacity, prompt: Sequence[int], max_tokens: int | None, least_tokens: int = 1) -> int:
    """Checks a request against what the device can hold.

    Args:
        prompt: token ids.
        max_tokens: as asked for; None is as many as fit.
        least_tokens: of the answer, that must fit.

    Returns:
        The tokens there is room for in the answer, at most those asked for.

    Raises:
        RequestError: EMPTY_PROMPT, INVALID_TOKEN_ID, INVALID_OPTION, CONTEXT_OVERFLOW or MEMORY.
    """
    if not prompt:
        raise RequestError(Reason.EMPTY_PROMPT, "expected at least one prompt token, got none. Send some text.")
    if (highest := max(prompt)) >= capacity.vocab_size:
        raise RequestError(
            Reason.INVALID_TOKEN_ID,
            f"token_ids: expected ids below {capacity.vocab_size}, got {highest}. "
            "Tokenize with this model's own tokenizer.",
            numbers={"token_id": highest, "vocab_size": capacity.vocab_size},
        )
    if max_tokens == 0:
        raise RequestError(
            Reason.INVALID_OPTION,
            "max_tokens: expected at least 1, got 0. Use CountTokens to measure a prompt.",
            numbers={"field": "max_tokens"},
        )
    room = capacity.context_limit - len(prompt)
    if room < least_tokens:
        raise _overflow(capacity, len(prompt), least_tokens)
    return room if max_tokens is None else min(max_tokens, room)


def _overflow(capacity: Capacity, prompt_tokens: int, least_tokens: int) -> RequestError:
    numbers = {"prompt_tokens": prompt_tokens, "context_limit": capacity.context_limit, "least_tokens": least_tokens}
    if prompt_tokens + least_tokens <= capacity.limits.context_tokens:
        return RequestError(
            Reason.MEMORY,
            f"the prompt has {prompt_tokens} tokens; expected at most {max(0, capacity.context_limit - least_tokens)}, "
            f"to leave {least_tokens} for the answer within the context limit of {capacity.context_limit} while memory "
            f"is short (otherwise {capacity.limits.context_tokens}). Try again later, or shorten the prompt.",
            numbers={**numbers, "full_context_limit": capacity.limits.context_tokens},
            retry_after_ms=_RETRY_MEMORY_MS,
        )
    return RequestError(
        Reason.CONTEXT_OVERFLOW,
        f"the prompt has {prompt_tokens} tokens; expected at most {max(0, capacity.context_limit - least_tokens)}, "
        f"to leave {least_tokens} for the answer within the context limit of {capacity.context_limit}. "
        "Shorten the prompt.",
        numbers=numbers,
    )


@dataclass(frozen=True, slots=True)
class _Miss:
    """A budget that would be missed: which, by whose account, and by how much."""

    name: str
    budget_ms: float
    needed_ms: float

    @property
    def late_ms(self) -> float:
        return self.needed_ms - self.budget_ms


def _by_ms(deadline_ms: float, aim_ms: float | None) -> float:
    """When a promised answer is to end by a forecast: the policy aims before it, and then there is still some time."""
    return deadline_ms if aim_ms is None else (aim_ms + deadline_ms) / 2


class Admission:
    """Decides about one request, given how all others stand.

    Args:
        standings: of the others; not changed.
        now: from when on forecasts run.
    """

    def __init__(
        self, limits: Limits, costs: StepCosts, margins: Margins, standings: Sequence[Standing], now: float
    ) -> None:
        self._limits = limits
        self._costs = costs
        self._margins = margins
        self._others = standings
        self._now = now

    def grant(self, ask: Ask, room_tokens: int) -> Grant:
        """What the request gets: as many tokens as fit its budgets, if that leaves all other promises standing.

        A promise is protected from requests of its own and of lower classes; a higher class may break it.

        Args:
            room_tokens: tokens there is room for in the answer (`check_prompt`).

        Raises:
            RequestError: BUDGET.
        """
        least = ask.least_answer(room_tokens)
        tokens = room_tokens
        ahead = self._ahead(ask, tokens)
        for _ in range(_SHRINKINGS):
            total = self._total(ask, ahead)
            if total is None or tokens <= least:
                break
            mine = ahead[_CANDIDATE]
            began_ms = mine.ended_at_ms if mine.first_token_at_ms is None else mine.first_token_at_ms
            per_token_ms = (mine.ended_at_ms - began_ms) / max(1, tokens - 1)
            fewer = int(total.late_ms / per_token_ms) + 1 if per_token_ms else tokens
            tokens = max(least, tokens - fewer)
            ahead = self._ahead(ask, tokens)
        grant = self._granted(ask, ahead, tokens)
        if (miss := self._missed(ask, ahead)) is not None:
            raise self._refusal(ask, grant, least, miss)
        return grant

    def _ahead(self, ask: Ask, tokens: int, others: Sequence[Standing] | None = None) -> dict[str, Forecast]:
        candidate = Standing(
            id=_CANDIDATE,
            priority=ask.priority,
            turn=_LAST_TURN,
            served_ms=self._now,
            computed_tokens=ask.cached_tokens,
            left_to_prefill=ask.prompt_tokens - ask.cached_tokens,
            left_to_generate=tokens,
            reserved_tokens=ask.prompt_tokens + tokens - 1,
            running=False,
            begun=False,
            deadline_ms=ask.deadline_ms,
            first_token_by_ms=None if ask.first_token_ms is None else ask.arrived_ms + ask.first_token_ms,
            per_token_ms=ask.per_token_ms,
            promised=ask.total_ms is not None,
            aim_ms=self._aim_ms(ask),
        )
        others = self._others if others is None else others
        return forecast([*map(copy, others), candidate], self._limits, self._costs, self._now)

    def _aim_ms(self, ask: Ask) -> float | None:
        return None if ask.total_ms is None else ask.arrived_ms + ask.total_ms / self._margins.total

    def _granted(self, ask: Ask, ahead: Mapping[str, Forecast], tokens: int) -> Grant:
        mine = ahead[_CANDIDATE]
        assert mine.first_token_at_ms is not None
        # A forecast goes on from the last step, which may have ended before the request came.
        first_ms, total_ms = mine.first_token_at_ms - ask.arrived_ms, mine.ended_at_ms - ask.arrived_ms
        return Grant(tokens, max(0.0, first_ms), max(0.0, total_ms), self._aim_ms(ask))

    def _total(self, ask: Ask, ahead: Mapping[str, Forecast]) -> _Miss | None:
        if ask.total_ms is None:
            return None
        safety = ask.total_ms / (_by_ms(ask.arrived_ms + ask.total_ms, self._aim_ms(ask)) - ask.arrived_ms)
        needed_ms = (ahead[_CANDIDATE].ended_at_ms - ask.arrived_ms) * safety
        return None if needed_ms <= ask.total_ms else _Miss("total_ms", ask.total_ms, needed_ms)

    def _missed(self, ask: Ask, ahead: Mapping[str, Forecast]) -> _Miss | None:
        if (miss := self._total(ask, ahead)) is not None:
            return miss
        first_at_ms = ahead[_CANDIDATE].first_token_at_ms
        assert first_at_ms is not None
        first_ms = self._now - ask.arrived_ms + (first_at_ms - self._now) * self._margins.first_token
        if ask.first_token_ms is not None and first_ms > ask.first_token_ms:
            return _Miss("first_token_ms", ask.first_token_ms, first_ms)
        step_ms = self._costs.decode_ms(1, ask.prompt_tokens) * self._costs.margin
        if ask.per_token_ms is not None and step_ms > ask.per_token_ms:
            return _Miss("per_token_ms", ask.per_token_ms, step_ms)
        return self._missed_by_others(ask, ahead)

    def _missed_by_others(self, ask: Ask, ahead: Mapping[str, Forecast]) -> _Miss | None:
        """The promise this request would break worst; one that is lost anyway does not count."""
        misses = self._misses(ask, ahead, safely=True)
        if not misses:
            return None
        without = forecast(map(copy, self._others), self._limits, self._costs, self._now)
        lost = self._misses(ask, without, safely=False)
        # One that was at risk before is no reason either, as long as it is not put at more.
        at_risk = self._misses(ask, without, safely=True)
        broken = [
            miss
            for promise, miss in misses.items()
            if promise not in lost and (promise not in at_risk or miss.needed_ms > at_risk[promise].needed_ms)
        ]
        return max(broken, key=lambda miss: miss.late_ms, default=None)

    def _misses(self, ask: Ask, ahead: Mapping[str, Forecast], *, safely: bool) -> dict[tuple[str, str], _Miss]:
        """By request and promise; `safely`, with room for what forecasts don't know."""
        misses = {}
        first_token_margin = self._margins.first_token if safely else 1.0
        for each in self._others:
            if each.priority > ask.priority:
                continue
            mine = ahead[each.id]
            total_by_ms = None
            if each.promised and each.deadline_ms is not None:
                total_by_ms = _by_ms(each.deadline_ms, each.aim_ms) if safely else each.deadline_ms
            for name, by_ms, at_ms, margin in (
                ("others_total_ms", total_by_ms, mine.ended_at_ms, 1.0),
                ("others_first_token_ms", each.first_token_by_ms, mine.first_token_at_ms, first_token_margin),
            ):
                if by_ms is not None and at_ms is not None:
                    miss = _Miss(name, by_ms - self._now, (at_ms - self._now) * margin)
                    if miss.late_ms > 0:
                        misses[each.id, name] = miss
        return misses

    def _refusal(self, ask: Ask, grant: Grant, least: int, miss: _Miss) -> RequestError:
        alone = self._ahead(ask, grant.max_tokens, ())
        never = Admission(self._limits, self._costs, self._margins, (), self._now)._missed(ask, alone) is not None
        # Work only ever shrinks while nobody is let in, so what is late by so much now is in time by then.
        retry_after_ms = None if never else max(1, math.ceil(miss.late_ms))
        whose = "another request's promise" if miss.name.startswith("others") else miss.name
        advice = (
            "This device can't do it even when idle: allow more time, or ask for less."
            if never
            else f"Try again in {retry_after_ms} ms, allow more time, or ask for less."
        )
        return RequestError(
            Reason.BUDGET,
            f"{whose}: expected at most {miss.budget_ms:.0f} ms, got a prediction of {miss.needed_ms:.0f} ms for "
            f"{grant.max_tokens} tokens (at least {least} were asked for) with {len(self._others)} requests open. "
            f"{advice}",
            numbers={
                "missed": miss.name,
                "budget_ms": round(miss.budget_ms, 1),
                "needed_ms": round(miss.needed_ms, 1),
                "predicted_first_token_ms": round(grant.predicted_first_token_ms, 1),
                "predicted_total_ms": round(grant.predicted_total_ms, 1),
                "granted_max_tokens": grant.max_tokens,
                "min_granted_tokens": least,
                "open_requests": len(self._others),
            },
            retry_after_ms=retry_after_ms,
        )
