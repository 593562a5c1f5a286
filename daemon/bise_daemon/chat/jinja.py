"""Chat through the checkpoint's own template, with message contents kept literal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from bise_daemon.chat.control import OPEN, RESERVED, ControlTokens, Reading
from bise_daemon.chat.json_tokenizer import Encoding, JsonTokenizer
from bise_daemon.chat.message import Message, Prompt, check_messages, invalid_message
from bise_daemon.chat.template import ChatTemplate


class JinjaChat:
    """Renders with a template, encodes with a `tokenizer.json`.

    The rendered text is encoded whole, so prompts equal those the checkpoint was trained with. A content that
    spells a control token (`<|im_end|>`) must not close the user's turn, though: the chat is rendered a second
    time with the contents marked, which tells the template's control tokens from those of the contents, and the
    latter are encoded as the plain characters they are.
    """

    def __init__(self, template: ChatTemplate, template_source: str, tokenizer: JsonTokenizer) -> None:
        """
        Args:
            template: the compiled template.
            template_source: its text; added tokens that it spells count as control tokens, special or not.
            tokenizer: the bundle's tokenizer.
        """
        self._template = template
        self._tokenizer = tokenizer
        self._controls = ControlTokens(
            {
                token.text: token.token_id
                for token in tokenizer.added_tokens
                if token.text.strip() and (token.special or token.text in template_source)
            }
        )

    def encode(self, messages: Sequence[Message]) -> Prompt:
        """The prompt for the assistant's next turn.

        Raises:
            RequestError: INVALID_MESSAGE, naming the field.
        """
        check_messages(messages)
        for index, message in enumerate(messages):
            if found := RESERVED.search(message.content):
                raise invalid_message(
                    f"messages[{index}].content",
                    f"expected text without the noncharacter U+{ord(found[0]):04X}. Remove it.",
                )
        text = self._template.render(messages)
        guarded = self._template.render([replace(m, content=self._controls.guard(m.content)) for m in messages])
        reading = self._controls.read(guarded)
        encoding = self._tokenizer.encode_with_offsets(text)
        if reading.torn or reading.text != text:
            # The template looks into contents, so characters can't be told apart, only control tokens counted.
            if self._control_ids(encoding) != [token_id for _, _, token_id in reading.controls]:
                raise self._not_literal(text)
            return Prompt(encoding.token_ids, text)
        if foreign := self._foreign(encoding, text, reading):
            return Prompt(self._encode_literal(text, foreign, reading), text)
        return Prompt(encoding.token_ids, text)

    def _control_ids(self, encoding: Encoding) -> list[int]:
        return [token_id for token_id in encoding.token_ids if token_id in self._controls.token_ids]

    def _foreign(self, encoding: Encoding, text: str, reading: Reading) -> list[int]:
        """Where in `text` control tokens begin that the template did not write."""
        own = {(start, end) for start, end, _ in reading.controls}
        foreign = []
        for token_id, (start, end) in zip(encoding.token_ids, encoding.offsets, strict=True):
            if token_id not in self._controls.token_ids:
                continue
            spelled = text[start:end]  # may take in space around it
            start += len(spelled) - len(spelled.lstrip())
            if (start, start + len(spelled.strip())) not in own:
                foreign.append(start)
        return foreign

    def _encode_literal(self, text: str, foreign: Sequence[int], reading: Reading) -> list[int]:
        """Encodes `text` with the control tokens at `foreign` as plain characters.

        A guard after the first character keeps the tokenizer from finding them; the guard's own tokens are
        dropped again.
        """
        cuts = [0, *(start + 1 for start in foreign), len(text)]
        guarded = OPEN.join(text[start:end] for start, end in itertools.pairwise(cuts))
        encoding = self._tokenizer.encode_with_offsets(guarded)
        token_ids = []
        for token_id, (start, end) in zip(encoding.token_ids, encoding.offsets, strict=True):
            if OPEN not in guarded[start:end]:
                token_ids.append(token_id)
            elif end - start > 1:
                raise self._not_literal(text)  # a token of guard and text together can't be dropped
        own = [token_id for _, _, token_id in reading.controls]
        if [token_id for token_id in token_ids if token_id in self._controls.token_ids] != own:
            raise self._not_literal(text)
        return token_ids

    def _not_literal(self, text: str) -> Exception:
        return invalid_message(
            "messages",
            "expected contents that this model's tokenizer can keep apart from control tokens, "
            f"got contents that spell some (in a chat of {len(text)} characters). Remove them.",
        )
