"""One answer in the making: from a row of logits to text, log probabilities and the reason to stop."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

from bise_daemon.chat.calls.call import CallDelta, CallReader, Found, MalformedCall, NoCalls
from bise_daemon.engine.detokenize import Detokenizer, StopMatcher
from bise_daemon.engine.guide import Free, Guide
from bise_daemon.engine.runner import Logits
from bise_daemon.engine.sampling import Choice, Sampler


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token added to an answer; the text trails the tokens while a character or a stop string may be open."""

    text: str
    choice: Choice | None = None
    calls: Sequence[CallDelta | MalformedCall] = ()


@dataclass(slots=True)
class Growth:
    """What a step added to an answer.

    Attributes:
        tokens: at least one, in order.
        stopped: the answer ends with the last of them, by its content.
        pieces: what they added to the answer; of an end-of-sequence token, an empty one.
        held: guesses of the step that were right.
        forced: of the tokens, those that a format left no choice about.
    """

    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    pieces: list[Piece] = field(default_factory=list)
    held: int = 0
    forced: int = 0

    @property
    def ahead(self) -> int:
        """Tokens before the last that are still to be run, since no guess was theirs."""
        return max(0, len(self.tokens) - 1 - self.held)


class Generation:
    """Turns logits into an answer, token by token.

    Args:
        sampler: picks tokens; has the request's own random stream.
        detokenizer: fresh, for this answer.
        stops: fresh, for this answer.
        eos_token_ids: tokens that end the answer and are not part of it; empty to go on past them.
        guide: keeps the answer to its format; fresh, for this answer.
        calls: fresh, for this answer; what it takes for calls is no text, so no stop string is found in it.
    """

    def __init__(
        self,
        sampler: Sampler,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        eos_token_ids: Set[int],
        guide: Guide | None = None,
        calls: CallReader | None = None,
    ) -> None:
        self._sampler = sampler
        self._detokenizer = detokenizer
        self._stops = stops
        self._eos_token_ids = eos_token_ids
        self._guide = Free() if guide is None else guide
        self._calls = calls or NoCalls()
        self.stop_sequence: str | None = None
        """The stop string that ended the answer."""
        self.closed_early = False
        """The answer's format was closed before the model would have."""
        self.has_format = self._guide.closes

    def accept_all(self, logits: Logits, drafted: Sequence[int] = ()) -> Growth:
        """Samples the next tokens, as long as they are the ones drafted.

        Each is chosen from the logits after the tokens before it and with the same draw, so a draft changes when tokens
        come, and nothing else: neither greedy nor sampled ones. Tokens that the format dictates are not sampled.

        Args:
            logits: [drafted + 1, vocab], after the token before them and after each one drafted.
            drafted: guesses of the next tokens; at least one token fewer than are left to generate, since one more
                than hold is sampled.

        Raises:
            RequestError: the logits are not numbers, or the format can't be followed.
        """
        assert len(logits) == len(drafted) + 1, (logits.shape, len(drafted))
        growth = Growth()
        while True:
            self._accept(logits[growth.held], growth)
            known = len(growth.tokens) - growth.stopped  # what ended it is followed by nothing
            while growth.held < min(known, len(drafted)) and drafted[growth.held] == growth.tokens[growth.held]:
                growth.held += 1
            if growth.stopped or growth.held < len(growth.tokens):
                return growth

    def close(self) -> list[Piece]:
        """Makes the answer whole, as far as it has a format, when there is no time for more."""
        return [self._piece(self._read(token), Choice(token)) for token in self._guide.close()]

    def _accept(self, logits: Logits, growth: Growth) -> None:
        """Samples one token from logits [vocab], and adds what it leads to."""
        choice = self._sampler.sample(logits, self._guide.allowed(logits.size))
        course = self._guide.take(choice.token_id)
        growth.stopped, self.closed_early = course.ends, course.closed_early
        growth.forced += course.forced
        if not course.tokens or choice.token_id in self._eos_token_ids:
            growth.stopped = True
            growth.tokens.append(choice.token_id)  # it ended the answer, and is not part of it
            growth.pieces.append(Piece("", None))
            return
        for token in course.tokens:
            growth.tokens.append(token)
            growth.pieces.append(self._piece(self._read(token), choice if token == choice.token_id else Choice(token)))
            choice = Choice(token)
        for token in course.tokens[1:]:
            self._sampler.remember(token)
        growth.stopped |= self.stop_sequence is not None or self._calls.ended

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
