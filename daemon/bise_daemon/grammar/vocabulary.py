"""A model's vocabulary as llguidance needs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llguidance import LLTokenizer, TokenizerWrapper

from bise_daemon.chat.tokenizer import Tokenizer
from bise_daemon.grammar.spelling import FIRST_SPECIAL, spelling

# Written before a text, so that tokenizers which mark word starts add no space to the text itself.
_GUARD = "\x02"
_GUARD_TOKENS = 4


class Vocabulary:
    """Tokens and their bytes, for grammars over tokens and over bytes. Making one takes 0.5 s for 131,072 tokens.

    Attributes:
        tokens: llguidance's tokenizer over the model's tokens.
        bytes: and over bytes and the model's special tokens; see `spelling`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._specials = sorted(tokenizer.special_ids)
        self._place = {token: FIRST_SPECIAL + place for place, token in enumerate(self._specials)}
        self._byte_tokens: dict[int, int] = {}
        self.tokens = LLTokenizer(TokenizerWrapper(_Tokens(self)), eos_token=self.eos_token_ids)
        self.bytes = spelling(self.special_names)

    @property
    def eos_token_ids(self) -> list[int]:
        """What ends an answer; a token that no model has, where this one has none."""
        return sorted(self._tokenizer.eos_token_ids) or [self._tokenizer.vocab_size]

    @property
    def spellings(self) -> list[bytes]:
        """Each token's bytes; of a special one, the name that grammars call it by."""
        tokenizer, specials = self._tokenizer, self._tokenizer.special_ids
        spelled = [
            self._name(token) if token in specials else tokenizer.token_bytes(token)
            for token in range(tokenizer.vocab_size)
        ]
        self._byte_tokens = {text[0]: token for token, text in enumerate(spelled) if len(text) == 1}
        return spelled if tokenizer.eos_token_ids else [*spelled, b"<|end of text|>"]

    @property
    def special_ids(self) -> Sequence[int]:
        """Tokens that are no text."""
        return self._specials if self._tokenizer.eos_token_ids else [*self._specials, *self.eos_token_ids]

    @property
    def special_names(self) -> list[bytes]:
        """What grammars call the special tokens."""
        return [self._name(token) for token in self._specials]

    def is_eos(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return token in self._tokenizer.eos_token_ids

    def spell(self, tokens: Iterable[int]) -> list[int]:
        """Tokens of the model as tokens of the spelling."""
        spelled: list[int] = []
        for token in tokens:
            place = self._place.get(token)
            spelled += self._tokenizer.token_bytes(token) if place is None else [place]
        return spelled

    def read(self, spelled: Sequence[int]) -> list[int]:
        """Tokens of the spelling as tokens of the model, text as it would tokenize it."""
        tokens: list[int] = []
        text = bytearray()
        for each in spelled:
            if each < FIRST_SPECIAL:
                text.append(each)
                continue
            tokens += self.encode(bytes(text))
            tokens.append(self._specials[each - FIRST_SPECIAL])
            text.clear()
        return tokens + self.encode(bytes(text))

    def encode(self, text: bytes) -> list[int]:
        """The tokens of a text, none of them special: as the model's tokenizer has them, else one for each byte."""
        try:
            characters = text.decode("utf-8")
        except UnicodeDecodeError:
            return self._one_by_one(text)
        tokens = self._tokenizer.encode(characters, add_bos=False)
        if self._says(tokens) == text:
            return tokens
        tokens = self._tokenizer.encode(_GUARD + characters, add_bos=False)
        for start in range(1, min(_GUARD_TOKENS, len(tokens)) + 1):
            if self._says(tokens[start:]) == text:
                return tokens[start:]
        return self._one_by_one(text)

    def _one_by_one(self, text: bytes) -> list[int]:
        return [self._byte_tokens[byte] for byte in text]

    def _says(self, tokens: Sequence[int]) -> bytes | None:
        if self._tokenizer.special_ids.intersection(tokens):
            return None
        return b"".join(map(self._tokenizer.token_bytes, tokens))

    def _name(self, token: int) -> bytes:
        """As llguidance's Lark names special tokens, in angle brackets."""
        name = self._tokenizer.token_bytes(token).decode("utf-8", "replace")
        return f"<{re.sub(r'^[<[]|[]>]$', '', name)}>".encode()


class _Tokens:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = vocabulary.spellings
        self.special_token_ids = vocabulary.special_ids
        self.eos_token_id = vocabulary.eos_token_ids[0]
        self._encode = vocabulary.encode

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text)
