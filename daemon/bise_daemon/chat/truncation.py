"""TRUNCATE_OLDEST: a conversation that does not fit, without its oldest turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bise_daemon.chat.message import Message, Role
from bise_daemon.errors import Reason, RequestError


@dataclass(frozen=True, slots=True)
class Truncation:
    """What is left of a conversation, and what that cost.

    Attributes:
        dropped_messages: how many were left out.
        dropped_tokens: what the prompt became shorter by, their place in the chat's layout included.
    """

    messages: Sequence[Message]
    dropped_messages: int
    dropped_tokens: int


def truncate_oldest(
    messages: Sequence[Message], count_tokens: Callable[[Sequence[Message]], int], most_tokens: int
) -> Truncation:
    """Drops as few of the oldest turns as it takes to fit.

    A turn is a user message with all that answers it, calls and their results included, so what is left still begins
    with a user message, and roles alternate as they did. All system messages stay, and the last turn: everything from
    the last user message on.

    Counting renders and tokenizes the whole chat, so turns are searched by halves: a conversation of n turns is
    counted at most 2 + ⌈log₂ n⌉ times, and what is returned was counted itself, whatever the template does.

    Args:
        messages: a conversation that its chat format takes.
        count_tokens: the tokens of the prompt that the chat format makes of some messages.
        most_tokens: what the prompt may have.

    Raises:
        RequestError: CONTEXT_OVERFLOW, even the system messages and the last turn have more.
    """
    all_tokens = count_tokens(messages)
    if all_tokens <= most_tokens:
        return Truncation(messages, 0, 0)
    starts = _starts(messages)
    too_few, enough = 0, len(starts) - 1
    kept = _without(messages, starts[enough])
    kept_tokens = count_tokens(kept)
    if kept_tokens > most_tokens:
        raise RequestError(
            Reason.CONTEXT_OVERFLOW,
            f"the prompt has {all_tokens} tokens, and {kept_tokens} with only its system messages and last turn; "
            f"expected at most {most_tokens}. Shorten these.",
            numbers={
                "prompt_tokens": all_tokens,
                "least_prompt_tokens": kept_tokens,
                "most_prompt_tokens": most_tokens,
            },
        )
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        fewer_dropped = _without(messages, starts[middle])
        tokens = count_tokens(fewer_dropped)
        if tokens <= most_tokens:
            enough, kept, kept_tokens = middle, fewer_dropped, tokens
        else:
            too_few = middle
    return Truncation(kept, len(messages) - len(kept), all_tokens - kept_tokens)


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where turns start, the oldest first.

    What stands before the first user message, for instance an assistant's greeting, is a turn of its own.
    """
    said = [index for index, message in enumerate(messages) if message.role != Role.SYSTEM]
    return said[:1] + [index for index in said[1:] if messages[index].role == Role.USER]


def _without(messages: Sequence[Message], start: int) -> list[Message]:
    """The system messages, and all messages from `start` on."""
    return [message for index, message in enumerate(messages) if index >= start or message.role == Role.SYSTEM]
