"""Chat in Mistral's own instruct encoding, by mistral-common: contents never become control tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from pydantic import ValidationError

from bise_daemon.chat.message import MAX_QUOTED_CHARS, Message, Prompt, Role, check_messages, invalid_message
from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer

_Turn = SystemMessage | UserMessage | AssistantMessage


def _system(content: str) -> _Turn:
    return SystemMessage(content=content)


def _user(content: str) -> _Turn:
    return UserMessage(content=content)


def _assistant(content: str) -> _Turn:
    return AssistantMessage(content=content)


_TURNS: dict[str, Callable[[str], _Turn]] = {Role.SYSTEM: _system, Role.USER: _user, Role.ASSISTANT: _assistant}


class MistralChat:
    """The layout follows the tokenizer file's version, for instance [SYSTEM_PROMPT] and [INST] from v7 on."""

    def __init__(self, tokenizer: MistralCommonTokenizer) -> None:
        self._mistral = tokenizer.mistral

    def encode(self, messages: Sequence[Message]) -> Prompt:
        """The prompt for the assistant's next turn.

        Raises:
            RequestError: INVALID_MESSAGE, naming the field.
        """
        check_messages(messages)
        try:
            turns = [_TURNS[message.role](message.content) for message in messages]
            request: ChatCompletionRequest[_Turn] = ChatCompletionRequest(messages=turns)
            tokenized = self._mistral.encode_chat_completion(request)
        except (MistralCommonException, ValidationError) as error:
            problem = error.message if isinstance(error, MistralCommonException) else str(error)
            raise invalid_message(
                "messages",
                f"expected turns in Mistral's instruct format, but mistral-common says: {problem[:MAX_QUOTED_CHARS]}. "
                "Send an optional system message, then user and assistant in alternation.",
            ) from error
        token_ids = list(tokenized.tokens)
        return Prompt(token_ids, self._mistral.decode(token_ids, SpecialTokenPolicy.KEEP))
