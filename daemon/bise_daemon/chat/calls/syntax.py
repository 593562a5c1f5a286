"""Which way to write calls a model was trained in: a table of what its template spells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bise_daemon.chat.calls.call import CallReader, NoCalls, Terms
from bise_daemon.chat.calls.llama import PYTHON_TAG, LlamaCalls
from bise_daemon.chat.calls.mistral import ARGS, CALL_ID, CALLS, ListedCalls, NamedCalls
from bise_daemon.chat.calls.parser import CallParser
from bise_daemon.chat.calls.tagged import CLOSING, OPENING, TaggedCalls
from bise_daemon.chat.conversation import Conversation


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How a model writes calls.

    Attributes:
        marks: tokens that leave no text in an answer and mean something here, and how they are spelled.
    """

    parser: type[CallParser]
    marks: Mapping[int, str]

    def reader(self, conversation: Conversation) -> CallReader:
        """A fresh reader for the answer to a conversation with tools.

        Calls are looked for even where none may be made: what the model writes for one is no text.
        """
        choice = conversation.choice
        names = {tool.name for tool in conversation.offered if choice.name in ("", tool.name)}
        return self.parser(Terms(frozenset(names), choice.single), self.marks)


@dataclass(frozen=True, slots=True)
class _Row:
    """Templates with all of `spelled` and none of `unlike` teach `parser`; `marks` matter where they are tokens."""

    spelled: tuple[str, ...]
    unlike: tuple[str, ...]
    parser: type[CallParser]
    marks: tuple[str, ...]


# The first row that fits. Qwen's coders write XML between the tags.
_TEMPLATES = (
    _Row((CALLS, ARGS, CALL_ID), (), NamedCalls, (CALLS, CALL_ID, ARGS)),
    _Row((CALLS, ARGS), (), NamedCalls, (CALLS, ARGS)),
    _Row((CALLS,), (), ListedCalls, (CALLS,)),
    _Row((OPENING, CLOSING, '"arguments"'), ("<function=",), TaggedCalls, (OPENING, CLOSING)),
    _Row(('"name": ', '"parameters": '), (), LlamaCalls, (PYTHON_TAG,)),
)


def syntax_of_template(source: str, special_ids: Mapping[str, int]) -> CallSyntax | None:
    """The syntax that a chat template teaches; None for one that is not known.

    Args:
        special_ids: the tokenizer's tokens that leave no text, by how they are spelled.
    """
    for row in _TEMPLATES:
        if all(text in source for text in row.spelled) and not any(text in source for text in row.unlike):
            return CallSyntax(row.parser, {special_ids[mark]: mark for mark in row.marks if mark in special_ids})
    return None


def reader_of(syntax: CallSyntax | None, conversation: Conversation) -> CallReader:
    """A fresh reader for an answer; without tools, all of it is text."""
    return syntax.reader(conversation) if syntax and conversation.tools else NoCalls()
