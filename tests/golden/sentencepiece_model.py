"""Reads a SentencePiece model file: enough of its protobuf to get at pieces, scores and types."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_PIECES, _PIECE, _SCORE, _TYPE = 1, 1, 2, 3
_NORMAL = 1


class Piece(NamedTuple):
    """One piece; `type` counts as GGUF's token types do."""

    text: str
    score: float
    type: int


def mistral_v3() -> list[Piece]:
    """The pieces of Mistral 7B v0.3's tokenizer, which comes with mistral-common."""
    origin = find_spec("mistral_common").origin
    return pieces(Path(origin).parent / "data" / "mistral_instruct_tokenizer_240323.model.v3")


def pieces(path: Path) -> list[Piece]:
    """The pieces of the model at `path`, by id."""
    found = []
    for number, value in _fields(path.read_bytes()):
        if number == _PIECES:
            fields = dict(_fields(value))
            (score,) = struct.unpack("<f", fields.get(_SCORE, bytes(4)))
            found.append(Piece(fields[_PIECE].decode(), score, fields.get(_TYPE, _NORMAL)))
    return found


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
        else:
            size, at = {1: (8, at), 5: (4, at)}.get(wire_type) or _varint(data, at)
            yield number, data[at : at + size]
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at
