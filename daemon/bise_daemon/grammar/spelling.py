"""Text spelled byte by byte: a vocabulary in which grammars are followed where the model's own tokens don't matter."""

from __future__ import annotations

from collections.abc import Sequence

from llguidance import LLTokenizer, TokenizerWrapper

FIRST_SPECIAL = 256
"""Tokens below are bytes; from here on they are the model's special tokens, in order, and the end of the text."""


class _Bytes:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, specials: Sequence[bytes]) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(FIRST_SPECIAL)), *specials, b"<|end of text|>"]
        self.special_token_ids = list(range(FIRST_SPECIAL, len(self.tokens)))
        self.eos_token_id = len(self.tokens) - 1

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def spelling(specials: Sequence[bytes]) -> LLTokenizer:
    """A tokenizer whose tokens are bytes, and these special ones."""
    return LLTokenizer(TokenizerWrapper(_Bytes(specials)))
