"""Conversations by their ids: those on a stream, and for some time those whose stream has ended."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bise_daemon.dialogue.dialogue import Dialogue
from bise_daemon.errors import Reason, RequestError

# As many as are spoken on one device at once, and more. A connection that broke is back within minutes, if ever.
_MOST = 64
_HELD_MS = 10 * 60e3
_ID_BYTES = 16

Leave = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Entry:
    dialogue: Dialogue
    leave: Leave | None
    left_ms: float = 0.0


class HeldDialogues:
    """What can be resumed. An id is a secret: who has it has the conversation.

    Args:
        most_bytes: of all whose stream has ended, together.
    """

    def __init__(self, most_bytes: int, most: int = _MOST, held_ms: float = _HELD_MS) -> None:
        self._most_bytes = most_bytes
        self._most = most
        self._held_ms = held_ms
        self._entries: dict[str, _Entry] = {}  # those without a stream by age, the eldest first

    def begin(self, dialogue: Dialogue, leave: Leave) -> str:
        """Takes a new conversation.

        Args:
            leave: ends its stream, for another one that takes it over.

        Returns:
            Its id.
        """
        dialogue_id = secrets.token_urlsafe(_ID_BYTES)
        self._entries[dialogue_id] = _Entry(dialogue, leave)
        return dialogue_id

    async def resume(self, dialogue_id: str, leave: Leave, now: float) -> Dialogue:
        """Gives a conversation to another stream.

        Raises:
            RequestError: CONVERSATION_LOST.
        """
        self._forget(now)
        if (entry := self._entries.get(dialogue_id)) is not None and entry.leave is not None:
            await entry.leave()
            entry = self._entries.get(dialogue_id)
        if entry is not None and entry.leave is None:
            entry.leave = leave
            return entry.dialogue
        raise RequestError(
            Reason.CONVERSATION_LOST,
            f"conversation_id: expected one of the latest {self._most} whose stream ended within "
            f"{self._held_ms / 60e3:.0f} minutes, got one that is not held. "
            "Open a new conversation, with the messages of this one.",
            numbers={"field": "conversation_id", "most": self._most, "held_ms": self._held_ms},
        )

    def end(self, dialogue_id: str, now: float) -> None:
        """Its stream has ended."""
        entry = self._entries.pop(dialogue_id)
        entry.leave, entry.left_ms = None, now
        self._entries[dialogue_id] = entry
        self._forget(now)

    def _forget(self, now: float) -> None:
        held = {name: entry for name, entry in self._entries.items() if entry.leave is None}
        size_bytes = sum(entry.dialogue.size_bytes for entry in held.values())
        for count, (name, entry) in zip(range(len(held), 0, -1), held.items(), strict=True):
            if count <= self._most and size_bytes <= self._most_bytes and now - entry.left_ms < self._held_ms:
                return
            size_bytes -= entry.dialogue.size_bytes
            del self._entries[name]
