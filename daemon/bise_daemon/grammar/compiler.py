"""Where formats become grammars: tried apart, compiled off the event loop, and kept."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from contextlib import suppress

from llguidance import LLMatcher

from bise_daemon.chat.tokenizer import Tokenizer
from bise_daemon.grammar.format import Format, invalid
from bise_daemon.grammar.grammar import Grammar
from bise_daemon.grammar.limits import LIMITS
from bise_daemon.grammar.vocabulary import Vocabulary

_KEPT = 64
# The largest schemas that are no attack compile in 60 ms on a core of their own.
_TRIAL_S = 2.0
_START_S = 20.0
_LINE_BYTES = 1 << 20


class Compiler:
    """Belongs to the event loop. Costs nothing until the first format is asked for.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: Vocabulary | None = None
        self._grammars: OrderedDict[Format, Grammar] = OrderedDict()
        self._trial: Process | None = None
        self._turn = asyncio.Lock()

    async def compile(self, format_: Format) -> Grammar:
        """The grammar of a format, kept from before or made now.

        Raises:
            RequestError: INVALID_OPTION, with what is wrong with it.
        """
        if (known := self._grammars.get(format_)) is not None:
            self._grammars.move_to_end(format_)
            return known
        # One at a time: what somebody's grammar takes must not multiply.
        async with self._turn:
            if (known := self._grammars.get(format_)) is None:
                format_.grammar()
                if self._vocabulary is None:
                    self._vocabulary = await asyncio.to_thread(Vocabulary, self._tokenizer)
                closing = await self._try(format_, self._vocabulary)
                known = await asyncio.to_thread(compile_format, format_, self._vocabulary, closing)
                self._grammars[format_] = known
                if len(self._grammars) > _KEPT:
                    self._grammars.popitem(last=False)
        return known

    def forget(self, format_: Format) -> None:
        """Answers broke by it: what they share may be worn out, so it is compiled anew next time."""
        self._grammars.pop(format_, None)

    async def close(self) -> None:
        """Ends the process that tries."""
        if (trial := self._trial) is not None:
            self._trial = None
            with suppress(ProcessLookupError):
                trial.kill()
            await trial.wait()

    async def _try(self, format_: Format, vocabulary: Vocabulary) -> list[int]:
        names = [name.decode() for name in vocabulary.special_names]
        question = json.dumps([format_.kind, format_.text, names]).encode() + b"\n"
        try:
            if self._trial is None:
                self._trial = await _start()
            assert self._trial.stdin is not None
            assert self._trial.stdout is not None
            self._trial.stdin.write(question)
            answer = await asyncio.wait_for(self._trial.stdout.readline(), _TRIAL_S)
        except (TimeoutError, OSError) as error:
            await self.close()
            raise invalid(format_.kind, f"expected a grammar that is tried within {_TRIAL_S:g} s, got none") from error
        except asyncio.CancelledError:
            await self.close()  # what it still says is no answer to the next question
            raise
        if not answer:
            await self.close()
            raise invalid(format_.kind, "expected a grammar of moderate depth and size, got one that breaks a parser")
        found = json.loads(answer)
        if isinstance(found, str):
            raise invalid(format_.kind, f"expected what llguidance can follow, got: {' '.join(found.split())[:400]}")
        closing: list[int] = found
        return closing


async def _start() -> Process:
    command = [sys.executable, "-m", "bise_daemon.grammar.trial"]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_LINE_BYTES)
    assert process.stdin is not None
    assert process.stdout is not None
    # Starting Python takes longer than most trials may.
    process.stdin.write(b'["choices", "[\\"a\\"]", []]\n')
    await asyncio.wait_for(process.stdout.readline(), _START_S)
    return process


def compile_format(format_: Format, vocabulary: Vocabulary, closing: list[int]) -> Grammar:
    """A grammar that was tried, over a model's vocabulary; takes milliseconds, or tens of them for large ones.

    Args:
        closing: what the trial found.

    Raises:
        RequestError: INVALID_OPTION, it holds over bytes and not over tokens.
    """
    source = format_.grammar()
    tokens = LLMatcher(vocabulary.tokens, source, log_level=0, limits=LIMITS)
    spelled = LLMatcher(vocabulary.bytes, source, log_level=0, limits=LIMITS)
    shortest = vocabulary.read(closing)
    ahead = tokens.deep_copy()
    if ahead.try_consume_tokens(shortest) < len(shortest) or not ahead.is_accepting():
        problem = ahead.get_error() or "an end that its bytes allow and the model's tokens don't"
        raise invalid(format_.kind, f"expected what llguidance can follow, got: {' '.join(problem.split())[:400]}")
    return Grammar(vocabulary, tokens, spelled, closing, max(1, len(shortest)))
