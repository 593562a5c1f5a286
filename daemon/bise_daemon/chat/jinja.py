"""Chat through the checkpoint's own template, with message contents kept literal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bise_daemon.chat.calls.syntax import prompt_of, syntax_of_template
from bise_daemon.chat.control import OPEN, ControlTokens, Reading
from bise_daemon.chat.conversation import Conversation, check_conversation
from bise_daemon.chat.guarding import check_reserved, guard
from bise_daemon.chat.json_tokenizer import Encoding, JsonTokenizer
from bise_daemon.chat.message import Prompt, invalid_message
from bise_daemon.chat.template import ChatTemplate
from bise_daemon.chat.tool import unsupported_tools


class JinjaChat:
    """Renders with a template, encodes with a `tokenizer.json`.

    The rendered text is encoded whole, so prompts equal those the checkpoint was trained with. A content that
    spells a control token (`<|im_end|>`) must not close the user's turn, though: the chat is rendered a second
    time with the contents marked, which tells the template's control tokens from those of the contents, and the
    latter are encoded as the plain characters they are. The same goes for tools, calls and results.

    Attributes:
        call_syntax: how the model writes calls; None where its template has no tools, or a way not known here.
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
        added = tokenizer.added_tokens
        self.call_syntax = syntax_of_template(template_source, added) if template.takes_tools else None
        self._controls = ControlTokens(
            {
                token.text: token.token_id
                for token in added
                if token.text.strip() and (token.special or token.text in template_source)
            }
        )

    def encode(self, conversation: Conversation) -> Prompt:
        """The prompt for the assistant's next turn.

        Raises:
            RequestError: INVALID_MESSAGE, naming the field, or TOOLS_UNSUPPORTED.
        """
        check_conversation(conversation)
        check_reserved(conversation)
        if conversation.speaks_of_tools and self.call_syntax is None:
            raise unsupported_tools(
                "a chat template " + ("of another way" if self._template.takes_tools else "without tools")
            )
        text = self._template.render(conversation)
        return prompt_of(self._encode(text, conversation), text, conversation, self.call_syntax)

    def _encode(self, text: str, conversation: Conversation) -> list[int]:
        """Encodes a rendered conversation, with control tokens only where the template wrote them."""
        guarded = self._template.render(guard(conversation, self._controls))
        reading = self._controls.read(guarded)
        encoding = self._tokenizer.encode_with_offsets(text)
        if reading.torn or reading.text != text:
            # The template looks into contents, so characters can't be told apart, only control tokens counted.
            if self._control_ids(encoding) != [token_id for _, _, token_id in reading.controls]:
                raise self._not_literal(text)
            return encoding.token_ids
        if foreign := self._foreign(encoding, text, reading):
            return self._encode_literal(text, foreign, reading)
        return encoding.token_ids

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
