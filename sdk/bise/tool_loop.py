"""The rounds of an answer that takes tools: ask, run what is called, ask again. No I/O; clients drive it."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bise.errors import InvalidRequest
from bise.messages import Conversation, Message, ToolCall
from bise.tools import Tool, call_function, describe
from bise.types import Result

# A result is read by the model; an error need not be longer than that.
_MAX_ERROR_CHARS = 1000


@dataclass(frozen=True, slots=True)
class ToolRun:
    """How an answer came about.

    Attributes:
        result: the model's last answer. It asks for calls where rounds ran out.
        messages: the whole conversation, calls, results and the answer included.
        rounds: how often the model was asked.
    """

    result: Result
    messages: tuple[Message, ...]
    rounds: int

    @property
    def text(self) -> str:
        """The model's last answer."""
        return self.result.text


@dataclass(frozen=True, slots=True)
class Turn:
    """What to ask the model next."""

    messages: tuple[Message, ...]
    tool_choice: str | None


class ToolLoop:
    """One conversation, from the question to the answer.

    Attributes:
        tools: what the model is told.
        turn: what to ask next; None when there is an answer, or no round left.
    """

    def __init__(
        self,
        messages: Conversation,
        functions: Sequence[Callable[..., Any]],
        max_rounds: int,
        tool_choice: str | None,
    ) -> None:
        if max_rounds < 1:
            raise InvalidRequest(
                f"max_rounds: expected 1 or more, got {max_rounds}",
                reason="INVALID_OPTION",
                numbers={"field": "max_rounds"},
            )
        self.tools: list[Tool] = []
        self._functions: dict[str, Callable[..., Any]] = {}
        for index, function in enumerate(functions):
            if not inspect.isroutine(function):
                raise InvalidRequest(
                    f"tools[{index}]: expected a function to run, got {function!r:.200}",
                    reason="INVALID_MESSAGE",
                    numbers={"field": f"tools[{index}]"},
                )
            tool = describe(function, f"tools[{index}]")
            self.tools.append(tool)
            self._functions[tool.name] = function
        given = [Message("user", messages)] if isinstance(messages, str) else messages
        self._messages = [each if isinstance(each, Message) else Message(**each) for each in given]
        self._rounds_left = max_rounds
        self._rounds = 0
        self._result: Result | None = None
        self.turn: Turn | None = Turn(tuple(self._messages), tool_choice)

    @property
    def run(self) -> ToolRun:
        """What came of it."""
        assert self._result is not None
        return ToolRun(self._result, tuple(self._messages), self._rounds)

    def take(self, result: Result) -> Sequence[ToolCall]:
        """Takes in the model's answer; the calls it asks for, to be answered in order."""
        self._result = result
        self._rounds += 1
        self._rounds_left -= 1
        wrong = "\n".join(each.text for each in result.malformed_tool_calls)
        # Formats have no place for what is no call, so it stands as the text it is, unless there are calls.
        text = result.text if result.text.strip() else ""
        self._messages.append(Message("assistant", text or ("" if result.tool_calls else wrong), result.tool_calls))
        self.turn = None
        return result.tool_calls if self._rounds_left else ()

    def answer(self, results: Sequence[Message]) -> None:
        """Takes in results, and decides whether to ask again."""
        assert self._result is not None
        problems = [each.problem for each in self._result.malformed_tool_calls]
        if not self._rounds_left or not (results or problems):
            return
        self._messages += results
        if problems:
            problem = "; ".join(problems)
            self._messages.append(Message("user", f"A tool call was malformed and not run: {problem}. Try it again."))
        self.turn = Turn(tuple(self._messages), None)

    def run_sync(self, call: ToolCall) -> Message:
        """Runs a call; what it raises is its result."""
        try:
            value = call_function(self._functions[call.name], call.values)
            if inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()
                raise TypeError(f"{call.name} is a coroutine: use AsyncClient.run_tools")
        except Exception as error:  # noqa: BLE001 - the model is to hear of it
            return _failed(call, error)
        return _succeeded(call, value)

    async def run_async(self, call: ToolCall) -> Message:
        """As `run_sync`, in a thread, or awaited."""
        function = self._functions[call.name]
        try:
            if inspect.iscoroutinefunction(function):
                value = await call_function(function, call.values)
            else:
                value = await asyncio.to_thread(call_function, function, call.values)
        except Exception as error:  # noqa: BLE001 - as in run_sync
            return _failed(call, error)
        return _succeeded(call, value)


def _succeeded(call: ToolCall, value: object) -> Message:
    """The result as text: texts as they are, else JSON."""
    if hasattr(value, "model_dump_json"):
        value = value.model_dump_json()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return Message("tool", text, tool_call_id=call.id, name=call.name)


def _failed(call: ToolCall, error: Exception) -> Message:
    text = json.dumps({"error": f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARS]}, ensure_ascii=False)
    return Message("tool", text, tool_call_id=call.id, name=call.name)
