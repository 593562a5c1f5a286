"""One answer: tokens in, text and the reason to stop out."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
import pytest

from bise_daemon.engine.detokenize import ByteDetokenizer, StopMatcher
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.errors import Reason, RequestError

EOS = 0


def generation(
    stops: Sequence[str] = (), eos: Set[int] = frozenset({EOS}), params: SamplingParams | None = None
) -> Generation:
    return Generation(
        Sampler(params or SamplingParams(), [1]), ByteDetokenizer(lambda token: bytes([token])), StopMatcher(stops), eos
    )


def feed(target: Generation, data: bytes) -> tuple[str, bool]:
    """Lets the generation choose these bytes one after the other, as long as it goes on; its text, and if it ended."""
    text = ""
    for byte in data:
        logits = np.zeros(256, np.float32)
        logits[byte] = 5
        token, stopped, piece = target.accept(logits)
        assert token == byte
        text += piece.text
        if stopped:
            return text, True
    return text, False


def test_text_comes_by_whole_characters() -> None:
    target = generation()
    assert feed(target, "né".encode()[:2]) == ("n", False)
    assert feed(target, "né".encode()[2:]) == ("é", False)
    assert target.finish() == ""


def test_eos_adds_nothing() -> None:
    target = generation()
    logits = np.zeros(256, np.float32)
    logits[EOS] = 1
    token, stopped, piece = target.accept(logits)
    assert (token, stopped, piece.text, piece.choice) == (EOS, True, "", None)


def test_eos_can_be_ignored() -> None:
    assert feed(generation(eos=frozenset()), b"a\0b") == ("a\0b", False)


def test_a_stop_string_ends_it_and_nothing_is_left() -> None:
    target = generation(stops=["END"])
    assert feed(target, b"the END is near") == ("the ", True)
    assert target.stop_sequence == "END"
    assert target.finish() == ""


def test_what_could_have_been_a_stop_string_comes_at_the_end() -> None:
    target = generation(stops=["END"])
    assert feed(target, b"the EN") == ("the ", False)
    assert target.finish() == "EN"
    assert target.stop_sequence is None


def test_a_character_cut_short_can_complete_a_stop_string() -> None:
    target = generation(stops=["x\N{REPLACEMENT CHARACTER}"])
    assert feed(target, b"ax\xf0\x9f") == ("a", False)
    assert target.finish() == ""
    assert target.stop_sequence == "x\N{REPLACEMENT CHARACTER}"


def test_logprobs_come_with_the_choice() -> None:
    logits = np.zeros(256, np.float32)
    _, _, piece = generation(eos=frozenset(), params=SamplingParams(logprobs=True)).accept(logits)
    assert piece.choice is not None
    assert piece.choice.logprob == pytest.approx(-np.log(256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    with pytest.raises(RequestError) as refusal:
        generation().accept(np.full(256, value, np.float32))
    assert refusal.value.reason is Reason.ENGINE_FAILED
