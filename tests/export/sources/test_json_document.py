"""JSON of a checkpoint: an object in which every key stands once and all text can be written again."""

from __future__ import annotations

import time

import pytest

from bise_export.errors import SourceError
from bise_export.sources.json_document import parse_json


def test_an_object_is_read() -> None:
    assert parse_json(b'{"a": [1, "\\ud83d\\ude00"]}', "x") == {"a": [1, "\N{GRINNING FACE}"]}


@pytest.mark.parametrize("half", ["\\ud800", "\\uDFFF", "\\ude00\\ud83d"])
def test_half_a_character_is_refused(half: str) -> None:
    with pytest.raises(SourceError, match=r"expected JSON, got .* surrogates not allowed"):
        parse_json(f'{{"a": ["{half}"]}}'.encode(), "x")


def test_a_key_twice_is_found_among_many_at_once() -> None:
    text = ",".join(f'"{number}": 0' for number in [*range(100_000), 99_999])
    began_s = time.process_time()
    with pytest.raises(SourceError, match="the key '99999' twice"):
        parse_json(f"{{{text}}}".encode(), "x")
    assert time.process_time() - began_s < 5
