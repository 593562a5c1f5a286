"""What is wrong with a turn, as its caller is told."""

from __future__ import annotations

from bise_daemon.dialogue.refused import to_refused
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1.inference_pb2 import Refused


def test_a_refusal_tells_what_a_status_would() -> None:
    error = RequestError(Reason.BUDGET, "too slow.", numbers={"first_token_ms": 1.5}, retry_after_ms=20)
    assert to_refused(error).refused == Refused(
        reason="BUDGET", numbers={"first_token_ms": "1.5"}, message="too slow.", retry_after_ms=20
    )


def test_when_to_try_again_is_left_out_where_that_does_not_help() -> None:
    assert not to_refused(RequestError(Reason.DRAINING, "bye.")).refused.HasField("retry_after_ms")
