"""What a request says of phrases."""

from __future__ import annotations

import pytest

from bise_daemon.engine.generation import Piece
from bise_daemon.errors import Reason, RequestError
from bise_daemon.phrases.chunking import to_phraser
from bise_proto.v1 import inference_pb2


@pytest.mark.parametrize(
    ("unit", "first"), [(inference_pb2.Chunking.CLAUSE, "Well,"), (inference_pb2.Chunking.SENTENCE, "Well, no.")]
)
def test_a_unit_is_what_an_answer_is_cut_into(unit: inference_pb2.Chunking.Unit, first: str) -> None:
    phraser = to_phraser(inference_pb2.Chunking(unit=unit))
    assert phraser is not None
    phraser.push(Piece("Well, no. So", None), 0.0)
    assert phraser.next_phrase(1e9) == [Piece(first, None)]
    assert phraser.due_ms is None


def test_tokens_are_not_held_back_and_unknown_units_are_refused() -> None:
    assert to_phraser(inference_pb2.Chunking(max_wait_ms=100)) is None
    with pytest.raises(RequestError, match=r"chunking.unit: expected one of TOKEN, CLAUSE, SENTENCE, got 9") as refusal:
        to_phraser(inference_pb2.Chunking(unit=9))  # type: ignore[arg-type]
    assert refusal.value.reason is Reason.INVALID_OPTION
