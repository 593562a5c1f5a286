"""What an answer said, from the responses it was sent in."""

from __future__ import annotations

from collections.abc import Iterator

from bise_proto.v1 import inference_pb2
from bise_proto.v1.inference_pb2 import Accepted, ConverseResponse, Done, GenerateResponse, Message, ToolCall, Usage


class Said:
    """Collects one answer."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._usage = Usage()
        self._accepted = False
        self._whole = False

    def take(self, response: GenerateResponse) -> ConverseResponse:
        """Notes a response, and gives it as a conversation's."""
        match response.WhichOneof("event"):
            case "accepted":
                self._accepted, accepted = True, response.accepted
                self._usage = Usage(prompt_tokens=accepted.prompt_tokens, cached_tokens=accepted.cached_tokens)
                return ConverseResponse(accepted=accepted)
            case "delta":
                self._take_delta(response.delta)
                return ConverseResponse(delta=response.delta)
            case _:
                self._whole = True
                return ConverseResponse(done=response.done)

    @property
    def message(self) -> Message:
        """The assistant's turn. Calls of an answer that was interrupted may lack their ends, so they are none."""
        calls = [self._calls[index] for index in sorted(self._calls)] if self._whole else []
        return Message(role="assistant", content="".join(self._texts), tool_calls=calls)

    def interrupted(self) -> Iterator[ConverseResponse]:
        """The end of an answer in which the user spoke; one that is not begun yet is accepted, for nothing."""
        if not self._accepted:
            yield ConverseResponse(accepted=Accepted())
        yield ConverseResponse(done=Done(finish_reason=inference_pb2.INTERRUPTED, usage=self._usage))

    def _take_delta(self, delta: inference_pb2.Delta) -> None:
        self._texts.append(delta.text)
        self._usage.completion_tokens += len(delta.token_ids)
        for piece in delta.tool_calls:
            call = self._calls.setdefault(piece.index, ToolCall())
            call.id += piece.id
            call.name += piece.name
            call.arguments += piece.arguments
