"""What the engine counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from bise_daemon.engine.events import Drafts


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
    """Cache entries of running requests; those kept of others are idle."""
    idle_tokens: int = 0
    reused_tokens: int = 0
    preempted: int = 0
    expired: int = 0
    drafts: Drafts = field(default_factory=Drafts)
    busy_since_ms: float | None = None
    """When the present step began; None while there is nothing to do."""
