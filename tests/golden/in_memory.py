"""Weights held in memory, for tests of what reads weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bise_export.sources.weight import Float32, Weight
from bise_export.spec import ModelSpec
from golden import tiny


@dataclass(frozen=True)
class InMemory:
    """A weight held whole."""

    values: Float32
    dtype: str = "F32"
    file: Path = Path("memory")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def rows(self, start: int, stop: int) -> Float32:
        return self.values[start:stop].copy()


def weights_of(spec: ModelSpec, seed: int = 0) -> dict[str, Weight]:
    """The weights of `tiny.weights`, as a checkpoint gives them."""
    return {name: InMemory(values) for name, values in tiny.weights(spec, seed).items()}
