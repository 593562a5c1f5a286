"""Brings prefixes into the cache before the first request: from disk, else by computing them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.runner import Runner
from bise_daemon.prefixes.prefix import MIN_PREFIX_TOKENS, Prefix
from bise_daemon.prefixes.store import PrefixStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WarmPrefix:
    """A slot that holds the keys and values of `tokens`, and nothing else."""

    name: str
    slot: int
    tokens: Sequence[int] = field(repr=False)


def warm(
    prefixes: Sequence[Prefix],
    store: PrefixStore,
    runner: Runner,
    cache: KvCache,
    slots: Sequence[int],
    chunk_tokens: int,
    budget_tokens: int,
    on_chunk: Callable[[], object] = lambda: None,
) -> list[WarmPrefix]:
    """Fills one slot for each prefix, in order; those without room are left out with a warning.

    Args:
        slots: empty ones to use.
        chunk_tokens: prompt tokens of one step, where it has to be computed.
        budget_tokens: cache entries all prefixes together may hold.
        on_chunk: called after each step.

    Raises:
        SessionError: a step failed.
        Interrupted: somebody interrupted the runner.
    """
    store.keep_only([prefix.tokens for prefix in prefixes])
    free = list(slots)
    warmed = []
    for prefix in prefixes:
        tokens = prefix.tokens
        room_tokens = min(budget_tokens, cache.shape.context_tokens) if free else 0
        if len(tokens) > room_tokens:
            logger.warning(
                "prefix %s: left out: expected at most %d tokens, got %d. Shorten it, or list fewer before it.",
                prefix.name,
                room_tokens,
                len(tokens),
            )
            continue
        slot = free.pop(0)
        found = store.load(tokens, cache.pieces(slot, len(tokens)))
        if not found:
            _compute(tokens, runner, slot, chunk_tokens, on_chunk)
            store.save(tokens, cache.pieces(slot, len(tokens)))
        logger.info("prefix %s: %d tokens %s", prefix.name, len(tokens), "from disk" if found else "computed")
        budget_tokens -= len(tokens)
        warmed.append(WarmPrefix(prefix.name, slot, tokens))
    return warmed


def _compute(
    tokens: Sequence[int], runner: Runner, slot: int, chunk_tokens: int, on_chunk: Callable[[], object]
) -> None:
    for start, end in _chunks(len(tokens), max(chunk_tokens, MIN_PREFIX_TOKENS)):
        runner.prefill(slot, start, tokens[start:end], samples=False)
        on_chunk()


def _chunks(tokens: int, chunk_tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most one more than `chunk_tokens`, so that none is a single token."""
    start = 0
    while start < tokens:
        end = min(start + chunk_tokens, tokens)
        end += tokens - end == 1
        yield start, end
        start = end
