"""One answer in the making: from a row of logits to text, log probabilities and the reason to stop."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from bise_daemon.engine.detokenize import Detokenizer, StopMatcher
from bise_daemon.engine.sampling import Choice, Sampler
from bise_daemon.engine.session import Logits


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to an answer; the text trails the tokens while a character or a stop string may be open."""

    text: str
    choice: Choice | None


class Generation:
    """Turns logits into an answer, one token at a time.

    Args:
        sampler: picks tokens; has the request's own random stream.
        detokenizer: fresh, for this answer.
        stops: fresh, for this answer.
        eos_token_ids: tokens that end the answer and are not part of it; empty to go on past them.
    """

    def __init__(self, sampler: Sampler, detokenizer: Detokenizer, stops: StopMatcher, eos_token_ids: Set[int]) -> None:
        self._sampler = sampler
        self._detokenizer = detokenizer
        self._stops = stops
        self._eos_token_ids = eos_token_ids
        self.stop_sequence: str | None = None
        """The stop string that ended the answer."""

    def accept(self, logits: Logits) -> tuple[int, bool, Piece]:
        """Samples the next token from logits [vocab].

        Returns:
            The token, whether the answer ends with it, and what it adds to the answer.

        Raises:
            RequestError: the logits are not numbers.
        """
        choice = self._sampler.sample(logits)
        if choice.token_id in self._eos_token_ids:
            return choice.token_id, True, Piece("", None)
        text, self.stop_sequence = self._stops.push(self._detokenizer.push(choice.token_id))
        return choice.token_id, self.stop_sequence is not None, Piece(text, choice)

    def finish(self) -> str:
        """Text still held back when the answer ended for another reason than a stop string."""
        if self.stop_sequence is not None:
            return ""
        text, self.stop_sequence = self._stops.push(self._detokenizer.finish())
        return text + ("" if self.stop_sequence is not None else self._stops.flush())
