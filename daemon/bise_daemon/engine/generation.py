"""One answer in the making: from a row of logits to text, log probabilities and the reason to stop."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from bise_daemon.chat.calls.call import CallDelta, CallReader, Found, MalformedCall, NoCalls
from bise_daemon.engine.detokenize import Detokenizer, StopMatcher
from bise_daemon.engine.runner import Logits
from bise_daemon.engine.sampling import Choice, Sampler


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token added to an answer; the text trails the tokens while a character or a stop string may be open."""

    text: str
    choice: Choice | None = None
    calls: Sequence[CallDelta | MalformedCall] = ()


class Generation:
    """Turns logits into an answer, token by token.

    Args:
        sampler: picks tokens; has the request's own random stream.
        detokenizer: fresh, for this answer.
        stops: fresh, for this answer.
        eos_token_ids: tokens that end the answer and are not part of it; empty to go on past them.
        calls: fresh, for this answer; what it takes for calls is no text, so no stop string is found in it.
    """

    def __init__(
        self,
        sampler: Sampler,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        eos_token_ids: Set[int],
        calls: CallReader | None = None,
    ) -> None:
        self._sampler = sampler
        self._detokenizer = detokenizer
        self._stops = stops
        self._eos_token_ids = eos_token_ids
        self._calls = calls or NoCalls()
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
            return choice.token_id, True, Piece("")
        piece = self._piece(self._read(choice.token_id), choice)
        return choice.token_id, self.stop_sequence is not None or self._calls.ended, piece

    def accept_all(self, logits: Logits, drafted: Sequence[int]) -> tuple[list[int], bool, list[Piece]]:
        """Samples the next tokens, as long as they are the ones drafted.

        Each is chosen as `accept` would have, from the logits after the tokens before it and with the same draw, so a
        draft changes when tokens come, and nothing else: neither greedy nor sampled ones.

        Args:
            logits: [drafted + 1, vocab], after the token sampled last and after each one drafted.
            drafted: guesses of the next tokens; at least one token fewer than are left to generate, since one more
                than hold is sampled.

        Returns:
            The tokens, at least one; whether the answer ends with the last of them; and what each adds to the answer.

        Raises:
            RequestError: the logits are not numbers.
        """
        assert len(logits) == len(drafted) + 1, (logits.shape, len(drafted))
        tokens: list[int] = []
        pieces: list[Piece] = []
        stopped = False
        for row, guess in zip(logits, [*drafted, None], strict=True):
            token, stopped, piece = self.accept(row)
            tokens.append(token)
            pieces.append(piece)
            if stopped or token != guess:
                break
        return tokens, stopped, pieces

    def finish(self) -> Piece:
        """What was still held back when the answer ended for another reason than a stop string."""
        if self.stop_sequence is not None:
            return Piece("")
        rest = self._piece([*self._calls.push(self._detokenizer.finish()), *self._calls.finish()])
        return replace(rest, text=rest.text + self._stops.flush())

    @property
    def made_calls(self) -> bool:
        """Whether there are whole calls in the answer."""
        return self._calls.whole_calls > 0

    def _read(self, token_id: int) -> Sequence[Found]:
        mark = self._calls.marks.get(token_id)
        if mark is None:
            return self._calls.push(self._detokenizer.push(token_id))
        return [*self._calls.push(self._detokenizer.finish()), *self._calls.mark(mark)]

    def _piece(self, found: Sequence[Found], choice: Choice | None = None) -> Piece:
        """What was found, up to the first stop string in its text."""
        texts, calls = [], []
        for each in found:
            if not isinstance(each, str):
                calls.append(each)
                continue
            text, self.stop_sequence = self._stops.push(each)
            texts.append(text)
            if self.stop_sequence is not None:
                break
        return Piece("".join(texts), choice, tuple(calls))
