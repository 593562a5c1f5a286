"""The settings of named prefixes. What a validator here raises is what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_PREFIXES = 16
# Near what a whole configuration file may hold; a context is rarely longer.
MAX_TEXT_CHARS = 64 << 10
MAX_PREFIX_MESSAGES = 64

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class PrefixMessage(BaseModel):
    """One turn of a chat that others begin with."""

    model_config = _STRICT

    role: Literal["system", "user", "assistant"] = Field(description="system, user or assistant")
    content: str = Field(min_length=1, max_length=MAX_TEXT_CHARS, description="a text of 1 to 65536 characters")


class PrefixConfig(BaseModel):
    """What many requests begin with: the text of a prompt, or the first messages of a chat."""

    model_config = _STRICT

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="a name of 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
    )
    prompt: str | None = Field(
        None, min_length=1, max_length=MAX_TEXT_CHARS, description="a text of 1 to 65536 characters"
    )
    messages: tuple[PrefixMessage, ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        max_length=MAX_PREFIX_MESSAGES,
        description="1 to 64 messages, each with role and content",
    )

    @model_validator(mode="after")
    def _one_that_can_go_on(self) -> PrefixConfig:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError(f"{self.name}: either prompt or messages")
        if self.messages is not None and self.messages[-1].role == "user":
            raise ValueError(
                f"{self.name}: messages that a user's turn can follow (the last a system's or assistant's)"
            )
        return self


def _named_once(prefixes: Sequence[PrefixConfig]) -> Sequence[PrefixConfig]:
    names = [prefix.name for prefix in prefixes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each name once (not {', '.join(twice)})")
    return prefixes


PrefixConfigs = Annotated[
    tuple[PrefixConfig, ...],
    Field(
        strict=False, max_length=MAX_PREFIXES, description="up to 16 prefixes, each with name and prompt or messages"
    ),
    AfterValidator(_named_once),
]
"""All prefixes of a daemon."""
