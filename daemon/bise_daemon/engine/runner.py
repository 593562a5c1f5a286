"""What the engine drives: something that runs steps, and the cache they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bise_daemon.engine.session import Logits


class Runner(Protocol):
    """Runs the steps of a plan: a `Session` in the daemon, something scripted in tests."""

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        """Logits [1, vocab] after the last of the tokens if it `samples`, else [0, vocab]."""
        ...

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Logits [rows, vocab]."""
        ...


class Cache(Protocol):
    """Moves and releases what slots hold."""

    def move(self, source: int, target: int, tokens: int) -> None:
        """Brings entries to another slot."""
        ...

    def release(self, slot: int) -> None:
        """Gives a slot's memory back."""
        ...
