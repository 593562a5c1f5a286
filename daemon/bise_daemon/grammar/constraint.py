"""What one answer is held to: a format, calls that are required, or calls it makes by itself."""

from __future__ import annotations

from typing import Protocol

from bise_daemon.chat.calls.call import CallGrammar
from bise_daemon.chat.message import invalid_message
from bise_daemon.engine.guide import Guide
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.calls import BegunCalls
from bise_daemon.grammar.compiler import Compiler
from bise_daemon.grammar.format import Format, Kind, invalid


class Constraint(Protocol):
    """What an answer may be.

    Attributes:
        shortest_tokens: what the answer needs to be whole.
    """

    @property
    def shortest_tokens(self) -> int: ...

    def guide(self, max_tokens: int) -> Guide:
        """For one answer of at most so many tokens, not fewer than the shortest."""
        ...


async def find_constraint(compiler: Compiler, format_: Format | None, calls: CallGrammar | None) -> Constraint | None:
    """Compiles what an answer is held to; None where it is free. A format leaves no room for calls.

    Raises:
        RequestError: INVALID_OPTION or INVALID_MESSAGE, naming the field.
    """
    if format_ is not None:
        if calls is not None and calls.required:
            raise invalid(format_.kind, "expected none where a call is required (tool_choice), got one")
        return await compiler.compile(format_)
    if calls is None:
        return None
    try:
        grammar = await compiler.compile(Format(Kind.LARK, calls.text))
    except RequestError as error:
        if error.reason is not Reason.INVALID_OPTION:
            raise
        if not calls.required:
            return None  # nothing was promised: the model writes arguments as it likes
        problem = error.message.removeprefix("format.lark: ")
        raise invalid_message("tools", f"expected schemas that calls can be held to: {problem}") from error
    return grammar if calls.required else BegunCalls(grammar, calls.begins)
