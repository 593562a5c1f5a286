"""How byte-level BPE tokenizers split text into words before merging, by the name GGUF metadata gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class PreTokenizerKind:
    """One way to split.

    Attributes:
        patterns: applied one after another, each to the pieces the one before left; matches become pieces of their own.
        ignore_merges: a whole piece that is a token is that token, however it would merge.
        add_bos: what llama.cpp does where the metadata does not say.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False

    def build(self) -> PreTokenizer:
        """The pre-tokenizer, whose pieces are in GPT-2's byte alphabet."""
        return Sequence(
            [
                *(Split(Regex(pattern), behavior="isolated") for pattern in self.patterns),
                ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


_LLAMA3_KIND = PreTokenizerKind((_LLAMA3,), ignore_merges=True, add_bos=True)
_GPT2_KIND = PreTokenizerKind((_GPT2,))
_DIGITS_KIND = PreTokenizerKind((r"\p{N}", _GPT2))
_QWEN2_KIND = PreTokenizerKind((_QWEN2,))

PRE_TOKENIZERS: Mapping[str, PreTokenizerKind] = {
    "default": PreTokenizerKind((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": _GPT2_KIND,
    "smollm": _DIGITS_KIND,
    "starcoder": _DIGITS_KIND,
    "refact": _DIGITS_KIND,
    "command-r": _DIGITS_KIND,
    "llama3": _LLAMA3_KIND,
    "llama-v3": _LLAMA3_KIND,
    "llama-bpe": _LLAMA3_KIND,
    "falcon3": _LLAMA3_KIND,
    "pixtral": _LLAMA3_KIND,
    "qwen2": _QWEN2_KIND,
    "deepseek-r1-qwen": _QWEN2_KIND,
    "tekken": PreTokenizerKind((_TEKKEN,), ignore_merges=True, add_bos=True),
}
