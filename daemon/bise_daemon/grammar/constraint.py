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


# Calls that are not required are free where their grammar isn't there in this share of the time: it is next time.
_FREE_SHARE = 0.25


async def find_constraint(
    compiler: Compiler, form: Format | None, calls: CallGrammar | None, within_s: float
) -> Constraint | None:
    """Compiles what an answer is held to; None where it is free. A format leaves no room for calls.

    Args:
        within_s: how long the caller can wait.

    Raises:
        RequestError: INVALID_OPTION or INVALID_MESSAGE, naming the field; BUDGET, it takes longer.
    """
    if form is not None:
        if calls is not None and calls.required:
            raise invalid(form.kind, "expected none where a call is required (tool_choice), got one")
        return await compiler.compile(form, within_s)
    if calls is None:
        return None
    try:
        grammar = await compiler.compile(
            Format(Kind.LARK, calls.text), within_s if calls.required else _FREE_SHARE * within_s
        )
    except RequestError as error:
        if not calls.required:
            return None  # nothing was promised: the model writes arguments as it likes
        if error.reason is not Reason.INVALID_OPTION:
            raise
        problem = error.message.removeprefix("format.lark: ")
        raise invalid_message("tools", f"expected schemas that calls can be held to: {problem}") from error
    return grammar if calls.required else BegunCalls(grammar, calls.begins)
