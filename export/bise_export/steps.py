"""Who is told how an export goes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by one thread."""

    def step(self, name: str) -> None:
        """A new step begins."""
        ...

    def warn(self, text: str) -> None:
        """Something a person should know; the export goes on."""
        ...

    def weights(self, parameters: int) -> None:
        """So many parameters are to be gone through in this step."""
        ...

    def advance(self, parameters: int) -> None:
        """So many more are done; called from one thread."""
        ...
