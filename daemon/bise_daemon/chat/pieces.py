"""Vocabulary entries as the bytes they stand for, in the two spellings that byte-complete tokenizers use."""

from __future__ import annotations

import re

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's spelling of a space

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins: Latin-1's visible characters for themselves, the other bytes from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


_BYTE_OF_CHAR = _byte_alphabet()


def byte_level_bytes(piece: str) -> bytes:
    """Bytes of a byte-level BPE entry; an entry outside the byte alphabet (an added token) is its own UTF-8."""
    try:
        return bytes([_BYTE_OF_CHAR[char] for char in piece])
    except KeyError:
        return piece.encode("utf-8")


def sentencepiece_bytes(piece: str) -> bytes:
    """Bytes of a SentencePiece entry: `<0xE2>` is that byte, U+2581 is a space, all else its own UTF-8."""
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(WORD_START, " ").encode("utf-8")
