"""Brings prefixes back that memory took: from disk, once there is room for them and nobody waits for the engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.loop import Engine
from bise_daemon.prefixes.store import PrefixStore
from bise_daemon.prefixes.warm import WarmPrefix

logger = logging.getLogger(__name__)


class Revival:
    """Asks the engine for what is missing; to be called again and again, by one caller.

    Nothing is computed: that would take many steps. A prefix that is not on disk stays out until the next start, or
    until a request that begins with it leaves it behind.

    Args:
        prefixes: as they were at load, first ones first.
    """

    def __init__(self, prefixes: Sequence[WarmPrefix], store: PrefixStore, cache: KvCache, engine: Engine) -> None:
        self._prefixes = list(prefixes)
        self._store = store
        self._cache = cache
        self._engine = engine

    def go_on(self, budget_tokens: int) -> None:
        """Asks for one prefix, so that whoever comes waits for no more than one.

        Args:
            budget_tokens: what the cache may hold now.
        """
        outlook = self._engine.outlook
        if outlook.busy:
            return
        if (prefix := next(lost(self._prefixes, outlook.prefixes, budget_tokens), None)) is not None:
            self._engine.refill(prefix.slot, prefix.tokens, partial(self._fill, prefix))

    def _fill(self, prefix: WarmPrefix) -> bool:
        """On the engine's thread."""
        found = self._store.load(prefix.tokens, self._cache.pieces(prefix.slot, len(prefix.tokens)))
        if found:
            logger.info("prefix %s: %d tokens back from disk", prefix.name, len(prefix.tokens))
        else:
            self._prefixes.remove(prefix)
            logger.warning("prefix %s: not on disk any more. It comes back with the next start.", prefix.name)
        return found


def lost(
    prefixes: Sequence[WarmPrefix], held: Sequence[tuple[Sequence[int], int]], budget_tokens: int
) -> Iterator[WarmPrefix]:
    """Those that no slot holds, as long as all up to them fit.

    Args:
        held: tokens in the cache, and how many of each are there.
    """
    for prefix in prefixes:
        tokens = list(prefix.tokens)
        budget_tokens -= len(tokens)
        if budget_tokens < 0:
            return
        if not any(count == len(tokens) and list(theirs) == tokens for theirs, count in held):
            yield prefix
