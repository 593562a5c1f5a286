"""What was said in a conversation, as the messages that the next answer is asked for with."""

from __future__ import annotations

from collections.abc import Sequence

from bise_proto.v1.inference_pb2 import ChatRequest, EndOfTurn, Message, Open

_USER, _ASSISTANT = "user", "assistant"


class Dialogue:
    """The messages so far, unchecked as any caller's are.

    Attributes:
        messages: without the turn that is being heard or answered.
    """

    def __init__(self, opening: Open) -> None:
        self.messages: Sequence[Message] = list(opening.messages)
        self._asked = ChatRequest(options=opening.options, tools=opening.tools, tool_choice=opening.tool_choice)

    @property
    def size_bytes(self) -> int:
        """What it takes on the wire."""
        return self._asked.ByteSize() + sum(message.ByteSize() for message in self.messages)

    def resumed(self, opening: Open) -> None:
        """It goes on, with other options and tools where some are given."""
        if opening.HasField("options"):
            self._asked.options.CopyFrom(opening.options)
        if opening.tools:
            del self._asked.tools[:]
            self._asked.tools.extend(opening.tools)
        if opening.HasField("tool_choice"):
            self._asked.tool_choice.CopyFrom(opening.tool_choice)

    def request(self, turn: EndOfTurn) -> ChatRequest:
        """What a turn asks for, if this is all of it."""
        request = ChatRequest(messages=self._with(turn))
        request.MergeFrom(self._asked)
        return request

    def answered(self, turn: EndOfTurn, answer: Message) -> None:
        """A turn has its answer, whole or as far as it came; what says nothing is no message."""
        self.messages = self._with(turn)
        if answer.content or answer.tool_calls:
            self.messages = [*self.messages, answer]

    def spoken(self, text: str) -> None:
        """Of the last answer, only this was heard."""
        if not self.messages or self.messages[-1].role != _ASSISTANT:
            return
        *before, last = self.messages
        heard = Message()
        heard.CopyFrom(last)
        heard.content = text
        self.messages = [*before, heard] if text or heard.tool_calls else before

    def _with(self, turn: EndOfTurn) -> Sequence[Message]:
        messages = [*self.messages, *turn.messages]
        if turn.messages and not turn.text:
            return messages
        text = turn.text
        if messages and messages[-1].role == _USER:
            # Nothing was said in between, and chat formats want turns to alternate.
            text = "\n".join(filter(None, [messages.pop().content, text]))
        return [*messages, Message(role=_USER, content=text)]
