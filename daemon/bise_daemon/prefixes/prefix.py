"""A prefix as tokens: those that every prompt which goes on from it begins with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.format import ChatFormat
from bise_daemon.chat.message import Message, Role
from bise_daemon.chat.tokenizer import Tokenizer
from bise_daemon.errors import RequestError
from bise_daemon.prefixes.config import PrefixConfig, PrefixMessage

logger = logging.getLogger(__name__)

# With a float cache, a lone token goes through another attention kernel than it would inside a prompt.
MIN_PREFIX_TOKENS = 2
# A template's last characters can merge with the first of what the user says. Of different kinds, these leave only
# what stays in any case.
_USER_TURNS = ("a", "7", "?", "é")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A named prefix, at least two tokens."""

    name: str
    tokens: Sequence[int] = field(repr=False)


def encode_prefixes(configs: Iterable[PrefixConfig], tokenizer: Tokenizer, chat: ChatFormat) -> list[Prefix]:
    """The prefixes as tokens; one the model can't take is left out with a warning, since nothing depends on it.

    A chat's are the tokens that it has in common with itself going on, whatever the user says first. (Mistral's
    formats before v7 move a system message to the last user turn: with them, only first turns find it.) A prompt's are
    its own: its last token may come out differently with text behind it, which costs one token of reuse and nothing
    else, because prompts are matched by their tokens.
    """
    prefixes = []
    for config in configs:
        try:
            tokens = _chat_tokens(config.messages, chat) if config.messages else tokenizer.encode(config.prompt or "")
        except RequestError as error:
            logger.warning("prefix %s: left out: %s", config.name, error)
            continue
        if len(tokens) < MIN_PREFIX_TOKENS:
            logger.warning(
                "prefix %s: left out: expected at least %d tokens whatever follows, got %d. Remove it.",
                config.name,
                MIN_PREFIX_TOKENS,
                len(tokens),
            )
            continue
        prefixes.append(Prefix(config.name, tokens))
    return prefixes


def _chat_tokens(messages: Sequence[PrefixMessage], chat: ChatFormat) -> list[int]:
    first = [Message(message.role, message.content) for message in messages]
    chats = [chat.encode(Conversation([*first, Message(Role.USER, turn)])).token_ids for turn in _USER_TURNS]
    return [each[0] for each in takewhile(lambda each: len(set(each)) == 1, zip(*chats, strict=False))]
