"""A checkpoint's chat template: messages to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import jinja2

from bise_daemon.chat.message import MAX_QUOTED_CHARS, Message, invalid_message
from bise_daemon.chat.sandbox import ALLOWANCE, Allowance, Sandbox

MAX_TEMPLATE_BYTES = 256 << 10
_ROOM_CHARS = 1 << 20  # what a template may write beside four times the contents

# What a template can raise; anything else is our own bug.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """Renders messages as the checkpoint's template says, with the names the field's templates expect.

    These are `messages`, `add_generation_prompt` (true), `tools` and `documents` (none), the variables given,
    `raise_exception`, `strftime_now`, and Jinja's filters, with a `tojson` that keeps HTML characters.
    """

    def __init__(
        self, source: str, *, variables: Mapping[str, str], now: Callable[[], datetime] = datetime.now
    ) -> None:
        """
        Args:
            source: the template, at most 256 KiB.
            variables: more names for the template, for instance `bos_token`.
            now: the clock behind `strftime_now`.

        Raises:
            ValueError: the template is too large or is not valid Jinja.
        """
        if (size_bytes := len(source.encode("utf-8"))) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"expected a chat template of at most {MAX_TEMPLATE_BYTES} bytes, got {size_bytes}")
        try:
            self._template = Sandbox(now).counted(source)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"expected a Jinja template, got in line {error.lineno}: {error.message}") from error
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise ValueError(f"expected a Jinja template that compiles, got {type(error).__name__}") from error
        self._variables = dict(variables)

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as text, ready for the assistant's answer.

        Raises:
            RequestError: INVALID_MESSAGE, the template refuses the messages, fails on them, or spends too much.
        """
        allowance = Allowance(_ROOM_CHARS + 4 * sum(len(message.content) for message in messages))
        names = {
            **self._variables,
            "messages": [{"role": str(message.role), "content": message.content} for message in messages],
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            ALLOWANCE: allowance,
        }
        pieces: list[str] = []
        try:
            for piece in self._template.generate(names):
                allowance.write(piece)
                pieces.append(piece)
        except _TEMPLATE_ERRORS as error:
            problem = (str(error) or type(error).__name__)[:MAX_QUOTED_CHARS]
            raise invalid_message(
                "messages",
                f"expected turns that the model's chat template takes, got: {problem}. "
                "Change the turns (most templates want user and assistant in alternation), or use Generate.",
            ) from error
        return "".join(pieces)
