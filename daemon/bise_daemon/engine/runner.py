"""What the engine drives: something that runs steps, and the cache they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bise_daemon.scheduler.step import Decode, Prefill

Logits = NDArray[np.float32]


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A step was given up before its end; what it wrote lies beyond what its slots hold."""


class Runner(Protocol):
    """Runs the steps of a plan: a `Session` in the daemon, something scripted in tests.

    Each may raise `Interrupted`.
    """

    def prefill(self, slot: int, start: int, tokens: Sequence[int], samples: bool) -> Logits:
        """Logits [1, vocab] after the last of the tokens if it `samples`, else [0, vocab]."""
        ...

    def mixed(self, chunk: Prefill, step: Decode) -> tuple[Logits, Logits]:
        """`prefill` and `decode` in one run: what either gives. Not of every graph."""
        ...

    def verify(self, slot: int, start: int, tokens: Sequence[int], num_logits: int) -> Logits:
        """Logits [num_logits, vocab], after each of the last of the tokens."""
        ...

    def decode(self, first_slot: int, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Logits [rows, vocab]."""
        ...

    def interrupt(self) -> None:
        """Gives up the step that runs, if one does, within one operator; from any thread."""
        ...


class Cache(Protocol):
    """Copies and releases what slots hold."""

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Brings the first entries of a slot to another."""
        ...

    def release_beyond(self, slot: int, tokens: int) -> None:
        """Gives back a slot's memory beyond its first entries."""
        ...

    def release(self, slot: int) -> None:
        """Gives all of a slot's memory back."""
        ...
