"""Nobody watches a bench's export."""

from __future__ import annotations


class Silent:
    """Nobody watches a bench's export."""

    def step(self, name: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    def weights(self, parameters: int) -> None:
        """Nothing."""

    def advance(self, parameters: int) -> None:
        """Nothing."""
