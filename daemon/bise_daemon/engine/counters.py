"""What the engine counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What the engine has done, and holds as of its last step. Written by its thread, read by any."""

    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    slots_used: int = 0
    waiting: int = 0
    cached_tokens: int = 0
    busy_since_ms: float | None = None
    """When the present step began; None while there is nothing to do."""
