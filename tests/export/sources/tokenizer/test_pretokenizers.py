"""Pre-tokenizers against the originals they stand for."""

from __future__ import annotations

import base64
import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
from mistral_common.tokens.tokenizers.base import TokenizerVersion
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from bise_export.sources.gguf_header import GgufHeader
from bise_export.sources.tokenizer.gguf import GgufTokenizer
from bise_export.sources.tokenizer.pretokenizers import PRE_TOKENIZERS
from golden import tiny
from golden.make_tokens import TEXTS

TEKKEN = Path(find_spec("mistral_common").origin).parent / "data" / "tekken_240911.json"
_RANKS = 30_000


def pieces(pre_tokenizer: object, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("text", TEXTS)
def test_gpt2_splits_as_the_librarys_own(text: str) -> None:
    assert pieces(PRE_TOKENIZERS["gpt-2"].build(), text) == pieces(ByteLevel(add_prefix_space=False), text)


@pytest.mark.parametrize("text", TEXTS)
def test_smollm_splits_as_its_own_checkpoint_does(text: str) -> None:
    original = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    assert pieces(PRE_TOKENIZERS["smollm"].build(), text) == pieces(original, text)


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("llama-bpe", "I'LL pay 12345", ["I", "'LL", "Ġpay", "Ġ", "123", "45"]),
        ("qwen2", "I'LL pay 123", ["I", "'LL", "Ġpay", "Ġ", "1", "2", "3"]),
        ("tekken", "camelCase 12", ["camel", "Case", "Ġ", "1", "2"]),
        ("default", "pay 12345!", ["pay", "Ġ", "123", "45", "!"]),
    ],
)
def test_what_sets_each_apart(pre: str, text: str, expected: list[str]) -> None:
    assert pieces(PRE_TOKENIZERS[pre].build(), text) == expected


@pytest.mark.slow
def test_tekken_ids_are_mistral_commons() -> None:
    """The same tokens as GGUF metadata would have them (texts, and merges derived from ranks) give the same ids."""
    document = json.loads(TEKKEN.read_text(encoding="utf-8"))
    assert PRE_TOKENIZERS["tekken"].patterns == (document["config"]["pattern"],)
    special = document["config"]["default_num_special_tokens"]
    oracle = Tekkenizer(
        document["vocab"],
        list(Tekkenizer.DEPRECATED_SPECIAL_TOKENS),
        document["config"]["pattern"],
        special + _RANKS,
        special,
        TokenizerVersion.v3,
    )
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in document["vocab"][:_RANKS]}
    alphabet = _byte_alphabet()

    def written(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
        "tokenizer.ggml.tokens": [*(f"<special_{number}>" for number in range(special)), *map(written, ranks)],
        "tokenizer.ggml.token_type": [3] * special + [1] * _RANKS,
        "tokenizer.ggml.merges": [" ".join(map(written, _parts(token, ranks))) for token in ranks if len(token) > 1],
    }
    tokenizer = GgufTokenizer.of(GgufHeader(metadata, {}), Path("x.gguf"), tiny.LLAMA).build()
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False).ids == oracle.encode(text, bos=False, eos=False), text


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that merge into `token`: what merging by rank leaves before the last step."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        candidates = [(ranks.get(left + right, 1 << 30), at) for at, (left, right) in enumerate(pairwise(parts))]
        _, at = min(candidates)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _byte_alphabet() -> list[str]:
    """GPT-2's letter for each byte: itself where it prints, else the next letter from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
