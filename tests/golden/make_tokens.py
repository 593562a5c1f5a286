"""Golden token ids by llama.cpp, an oracle that shares no line with bise.

Run it (`python tests/golden/make_tokens.py SMOLLM2.gguf`, needs the `bench` and `dev` extras) when the texts change,
and commit what it writes: `tokens.json` beside it, ids by vocabulary and text. The vocabularies are SmolLM2's
(byte-level BPE, in its GGUF) and Mistral 7B v0.3's (SentencePiece, from mistral-common, put into a GGUF here).
"""

# ruff: noqa: RUF001 - letters that look like others are what a tokenizer must tell apart

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOKENS = HERE / "tokens.json"

TEXTS = [
    "Hello",
    " Hello, world!",
    "What is the capital of France?",
    "The quick brown fox jumps over the lazy dog.  It barked;  twice.",
    "0 1 12 123 1234 12345678901234567890 3.14159 -1e-9 0x7fff 1,000,000",
    "٣٤٥ ½ Ⅷ x² ①②③",
    "don't I'll WE'RE they've it's 'S 'LL ''' \"quoted\"",
    "def f(x: int) -> int:\n    if x < 2:\n\t\treturn x\n    return f(x - 1) + f(x - 2)  # fib\n",
    '{"name": "bise", "tags": ["a", "b"], "n": null}\r\n',
    '#include <stdio.h>\nint main(void) { printf("%d\\n", 1 << 3); return 0; }',
    "<div class='x'>&nbsp;</div><!-- -->",
    "naïve café, Zürich, São Paulo, Ångström, Łódź",
    "cafe\u0301 n\u0303 \u1e9b\u0323 (combining marks)",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם. مرحبا بالعالم",
    "你好，世界。こんにちは世界。안녕하세요 세계",
    "हिन्दी में परीक्षण ภาษาไทย தமிழ்",
    "🙂 👍🏽 👩‍👩‍👧‍👦 🇨🇭 ❤️ 🏴‍☠️ a🙂b",
    "𝒳 𝔘𝔫𝔦 \U0001f9ff \U00010348",
    " leading and trailing ",
    "   three   spaces   ",
    "tabs\t\tand\nnew\n\nlines\n\n\n",
    " \n \n  \t x",
    "\u00a0non\u00a0breaking\u2003em\u200bzero\ufeff",
    "a\u0000b\u0007c\u001b[0m",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "AAAA BBBB cccc DdDd camelCase snake_case SCREAMING_CASE kebab-case",
    "https://example.org/a/b?c=d&e=f#g me@example.org C:\\path\\to",
    "…—–‘’“”«»¿¡§¶†‡•",
    "$100 €5 £3 ¥9 50% 2^10 a+b=c ~/x |y| `z`",
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "[INST] Hi there [/INST] Hello</s>",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
]


def ids_of(gguf: Path) -> dict[str, list[int]]:
    """Ids of every text under the vocabulary in `gguf`, special tokens parsed and no bos."""
    from llama_cpp import Llama

    model = Llama(str(gguf), vocab_only=True, verbose=False)
    return {text: model.tokenize(text.encode(), add_bos=False, special=True) for text in TEXTS}


def write_mistral_gguf(path: Path) -> None:
    """Writes Mistral 7B v0.3's vocabulary, and the least metadata llama.cpp wants, to `path`."""
    from gguf import GGUFWriter

    from golden import sentencepiece_model

    pieces = sentencepiece_model.mistral_v3()
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([piece.type for piece in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Writes `tokens.json`."""
    with tempfile.TemporaryDirectory() as folder:
        mistral = Path(folder) / "mistral-v3.gguf"
        write_mistral_gguf(mistral)
        golden = {
            "smollm2": ids_of(Path(sys.argv[1])),
            "mistral_v3": ids_of(mistral),
        }
    made_with = f"llama-cpp-python {version('llama-cpp-python')}"
    # A line for each text, so that a change shows as one.
    blocks = [
        f" {json.dumps(vocabulary)}: {{\n"
        + ",\n".join(f"  {json.dumps(text)}: {json.dumps(numbers)}" for text, numbers in ids.items())
        + "\n }"
        for vocabulary, ids in golden.items()
    ]
    TOKENS.write_text(",\n".join([f'{{\n "made_with": {json.dumps(made_with)}', *blocks]) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
