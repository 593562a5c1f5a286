"""Chat messages as the daemon knows them, and the prompt that a chat format makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bise_daemon.errors import Reason, RequestError

MAX_MESSAGES = 1024
MAX_QUOTED_CHARS = 300  # of others' error texts, which can quote whole contents; a gRPC status has little room


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is free text until `check_messages` has passed it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a chat format makes of messages.

    Attributes:
        token_ids: the model's input.
        text: the same as text, control tokens spelled out; for people to inspect, not to encode again.
        dropped_messages, dropped_tokens: what was left out to make it fit.
    """

    token_ids: list[int]
    text: str
    dropped_messages: int = 0
    dropped_tokens: int = 0


def check_messages(messages: Sequence[Message]) -> None:
    """Proves what every chat format needs: 1 to 1,024 messages of known roles, ending with the user's.

    Raises:
        RequestError: INVALID_MESSAGE, naming the field.
    """
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise invalid_message(
            "messages", f"expected 1 to {MAX_MESSAGES} messages, got {len(messages)}. Send the turns to be answered."
        )
    roles = ", ".join(Role)
    for index, message in enumerate(messages):
        if message.role not in set(Role):
            raise invalid_message(f"messages[{index}].role", f"expected one of {roles}; got {message.role[:40]!r}.")
    last = len(messages) - 1
    if messages[last].role != Role.USER:
        raise invalid_message(
            f"messages[{last}].role",
            f"expected the last message to be the user's, got {messages[last].role}. "
            "Append the user's turn, or use Generate to continue a text.",
        )


def invalid_message(field: str, problem: str) -> RequestError:
    """INVALID_MESSAGE for `field`, for instance `messages[2].content`."""
    return RequestError(Reason.INVALID_MESSAGE, f"{field}: {problem}", numbers={"field": field})
