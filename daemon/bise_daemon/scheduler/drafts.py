"""Prompt lookup: guesses of what a request says next, taken from what it has read and said before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from bise_daemon.scheduler.costs import StepCosts

# How often the token after the last place that reads like the end (by the tokens that agree, at least) came next.
# Measured with SmolLM2's tokenizer on 34 answers, 20 of them SmolLM2's own (greedy and at temperature 0.8): prose that
# copies nothing, code, and edits of given texts gave 0.13, 0.22, 0.24 for one token, 0.26, 0.42, 0.46 for two,
# 0.31, 0.51, 0.68 for three, 0.6, 0.65, 0.88 from four, 0.5, 0.76, 0.93 from eight, and 0.8 to 0.98 from 16 on.
# It is what a request begins with; classes up to 4 only would cost edits 9 % of their speed.
_ODDS = {1: 0.15, 2: 0.3, 3: 0.5, 4: 0.65, 8: 0.8, 16: 0.9}
_LENGTHS = tuple(_ODDS)

# Weight of what was just seen. From 1/8 to 1/32 the same answers take within 2 % of the same time; with fixed odds,
# copying ones take up to 4 % more.
_GAIN = 1 / 16

# Guesses of one step, so that steps are 2, 4, 8 or 16 tokens: all sizes up to 15 are at most 2 % faster, and each is
# a set of buffers to bind. Beyond 16 tokens a step on a CPU takes no less per token.
_SIZES = (1, 3, 7, 15)

# A draft must look 10 % faster than none, and all drafts of a request together may cost it 2 % of its time, so that 3 %
# hold for costs that are not known exactly. In virtual time, with steps of 1, 2, 4, 8 and 16 tokens that take 5.4, 6.5,
# 9.4, 13.8 and 23 ms (SmolLM2, int4 over an int8 cache, AVX-512, 300 tokens of context), edits are 2.9 times as fast as
# without drafts and code 1.17 times; of the answers above none takes more than 0.7 % longer, on this or slower devices,
# and 1.4 % if steps take 15 % longer than expected (with 5 % and 3 %: 3.1 %). Copying ones give up 1 to 3 % for it.
_WORTH = 1.1
_RISK = 0.02


class Drafter:
    """Drafts for one request.

    It looks for the last place that reads like the end, for as many tokens as possible, and guesses that the text goes
    on as it did there. How often that holds depends on how many tokens agree, and on the request; it is learned from
    every token that comes, drafted or not, since a guess costs nothing until it is verified.

    Drafting pays its way: a step may be slower than plain decoding only by what earlier drafts have won, plus 2 % of
    the time plain decoding would have taken so far. So by the costs given, no answer is ever more than 2 % late.

    Args:
        prompt: at least one token; ids below 1,114,112, four times the largest vocabularies.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        assert prompt, "expected at least one token"
        # A token is a character: nothing finds the last place of some numbers faster than `str.rfind`. For 8,000 tokens
        # this takes 0.2 ms and 32 KB, and a search 2 µs; a dict for each of three lengths takes 3.5 ms and megabytes.
        self._text = "".join(map(chr, prompt))
        self._odds = dict(_ODDS)
        self._won_ms = 0.0
        self._decode_ms = 0.0
        self._extra_ms = 0.0
        self._look()

    def extend(self, tokens: Sequence[int]) -> None:
        """Takes in tokens that were sampled, in order, and learns from them what guesses are worth."""
        for char in map(chr, tokens):
            if self._matched:
                held = self._text[self._source] == char
                self._odds[self._matched] += _GAIN * (held - self._odds[self._matched])
            self._text += char
            self._look()
        self._won_ms += _RISK * self._decode_ms * len(tokens)

    def length(self, costs: StepCosts, context_tokens: int, most: int) -> int:
        """How many tokens to draft now.

        Of the sizes of a draft, k, the one with the least expected time a token, verify_ms(k + 1) / E(k), where
        E(k) = 1 + p1 + p1·p2 + … + p1·…·pk and p_i is the chance of guess i once those before it held; with equal
        chances that is (1 − p^(k+1)) / (1 − p) (Leviathan et al. 2023, "Fast Inference from Transformers via
        Speculative Decoding", equation 1). Here they rise along the draft: each guess that holds is one more token
        that agrees.

        Args:
            costs: of this device.
            context_tokens: cache entries before the token sampled last.
            most: tokens that may be drafted: one less than are left to generate, and no more than the budgets in force
                leave time for.

        Returns:
            0 when plain decoding is expected to be as fast.
        """
        self._decode_ms, self._extra_ms = costs.decode_ms(1, context_tokens), 0.0
        best, best_pace_ms = 0, self._decode_ms / _WORTH
        chance = expected_tokens = 1.0
        for size in range(1, min(most, _SIZES[-1], len(self._text) - self._source) + 1):
            chance *= self._odds[_LENGTHS[bisect_right(_LENGTHS, self._matched + size - 1) - 1]]
            expected_tokens += chance
            if size in _SIZES:
                verify_ms = costs.verify_ms(size + 1, context_tokens)
                if verify_ms - self._decode_ms > self._won_ms:
                    break
                if verify_ms / expected_tokens < best_pace_ms:
                    best, best_pace_ms = size, verify_ms / expected_tokens
                    self._extra_ms = verify_ms - self._decode_ms
        return best

    def draft(self, most: int) -> list[int]:
        """The next guesses: at most so many, fewer where the text ends, none where nothing reads like its end."""
        return [ord(char) for char in self._text[self._source : self._source + most]]

    def observe(self, drafted: int, accepted: int) -> None:
        """Settles a draft of the length last asked for, once it was verified: `accepted` of the guesses held."""
        assert 0 <= accepted <= drafted, (accepted, drafted)
        self._won_ms += accepted * self._decode_ms - self._extra_ms

    def _look(self) -> None:
        """Finds the place to continue from: after the last occurrence of the longest end of the text, by classes."""
        self._matched, self._source = 0, len(self._text)
        for length in _LENGTHS:
            # A longer end can't have occurred later than a shorter one; what was found must be followed by something.
            found = self._text.rfind(self._text[-length:], 0, min(self._source, len(self._text) - 1))
            if found < 0:
                return
            self._matched, self._source = length, found + length
