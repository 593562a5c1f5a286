"""What a request says of phrases."""

from __future__ import annotations

from bise_daemon.errors import Reason, RequestError
from bise_daemon.phrases.boundary import CLAUSE, SENTENCE
from bise_daemon.phrases.phraser import Phraser
from bise_proto.v1.inference_pb2 import Chunking

_BOUNDARIES = {Chunking.CLAUSE: CLAUSE, Chunking.SENTENCE: SENTENCE}


def to_phraser(chunking: Chunking) -> Phraser | None:
    """What cuts an answer into phrases; None where each token goes at once.

    Raises:
        RequestError: INVALID_OPTION.
    """
    if chunking.unit == Chunking.TOKEN:
        return None
    if chunking.unit not in _BOUNDARIES:
        units = ", ".join(Chunking.Unit.keys())
        raise RequestError(
            Reason.INVALID_OPTION,
            f"chunking.unit: expected one of {units}, got {chunking.unit}.",
            numbers={"field": "chunking.unit"},
        )
    return Phraser(_BOUNDARIES[chunking.unit], chunking.max_wait_ms or None)
