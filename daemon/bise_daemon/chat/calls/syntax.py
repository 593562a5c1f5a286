"""Which way to write calls a model was trained in: a table of what its template spells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bise_daemon.chat.calls.call import CallGrammar, CallReader, Terms
from bise_daemon.chat.calls.lark import grammar_of
from bise_daemon.chat.calls.llama import PYTHON_TAG, LlamaCalls
from bise_daemon.chat.calls.mistral import ARGS, CALL_ID, CALLS, ListedCalls, NamedCalls
from bise_daemon.chat.calls.parser import CallParser
from bise_daemon.chat.calls.tagged import CLOSING, OPENING, TaggedCalls
from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.message import Prompt
from bise_daemon.chat.tool import Tool, ToolMode

if TYPE_CHECKING:
    from bise_daemon.chat.json_tokenizer import AddedToken


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How a model writes calls.

    Attributes:
        openings: tokens that can only begin a call.
        marks: tokens that leave no text in an answer and mean something here, and how they are spelled.
    """

    parser: type[CallParser]
    marks: Mapping[int, str]
    openings: Set[int]

    def grammar(self, conversation: Conversation) -> CallGrammar | None:
        """What calls in the answer have to be; None where none may be made."""
        if not (tools := _callable(conversation)):
            return None
        required = conversation.choice.mode is ToolMode.REQUIRED
        text = grammar_of(self.parser, tools, single=conversation.choice.single)
        return CallGrammar(text, self.openings, required) if required or self.openings else None

    def reader(self, conversation: Conversation) -> CallReader:
        """A fresh reader for the answer to a conversation with tools.

        Calls are looked for even where none may be made: what the model writes for one is no text.
        """
        names = frozenset(tool.name for tool in _callable(conversation))
        return self.parser(Terms(names, conversation.choice.single), self.marks)


@dataclass(frozen=True, slots=True)
class _Row:
    """Templates with all of `spelled` and none of `unlike` teach `parser`; `marks` matter where they are tokens, and
    `opening` where it is one that every call begins with.
    """

    spelled: tuple[str, ...]
    unlike: tuple[str, ...]
    parser: type[CallParser]
    marks: tuple[str, ...]
    opening: str


# The first row that fits. Qwen's coders write XML between the tags.
_TEMPLATES = (
    _Row((CALLS, ARGS, CALL_ID), (), NamedCalls, (CALLS, CALL_ID, ARGS), CALLS),
    _Row((CALLS, ARGS), (), NamedCalls, (CALLS, ARGS), CALLS),
    _Row((CALLS,), (), ListedCalls, (CALLS,), CALLS),
    _Row((OPENING, CLOSING, '"arguments"'), ("<function=", "<tool_calls>"), TaggedCalls, (OPENING, CLOSING), OPENING),
    _Row(("<|start_header_id|>", '"name": ', '"parameters": '), ("<function=",), LlamaCalls, (PYTHON_TAG,), ""),
)


def syntax_of_template(source: str, added: Sequence[AddedToken]) -> CallSyntax | None:
    """The syntax that a chat template teaches; None for one that is not known.

    Args:
        added: the tokenizer's added tokens, of which special ones leave no text in an answer.
    """
    for row in _TEMPLATES:
        if all(text in source for text in row.spelled) and not any(text in source for text in row.unlike):
            marks = {token.token_id: token.text for token in added if token.special and token.text in row.marks}
            return CallSyntax(row.parser, marks, {token.token_id for token in added if token.text == row.opening})
    return None


def prompt_of(token_ids: list[int], text: str, conversation: Conversation, syntax: CallSyntax | None) -> Prompt:
    """The prompt of a conversation; without tools, all of the answer is text."""
    if syntax is None or not conversation.tools:
        return Prompt(token_ids, text)
    return Prompt(token_ids, text, syntax.reader(conversation), syntax.grammar(conversation))


def _callable(conversation: Conversation) -> Sequence[Tool]:
    name = conversation.choice.name
    return [tool for tool in conversation.offered if name in ("", tool.name)]
