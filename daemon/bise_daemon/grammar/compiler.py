"""Where formats become grammars: tried apart, compiled off the event loop, and kept."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from llguidance import LLMatcher

from bise_daemon.chat.tokenizer import Tokenizer
from bise_daemon.errors import Reason, RequestError
from bise_daemon.grammar.format import Format, Kind, invalid
from bise_daemon.grammar.grammar import Grammar
from bise_daemon.grammar.limits import LIMITS
from bise_daemon.grammar.vocabulary import Vocabulary

_KEPT = 64
# On a busy device the 2 s of CPU that a trial may take are longer.
_TRIAL_S = 20.0
_START_S = 20.0
_RETRY_MS = 1000
_LINE_BYTES = 1 << 20


class Compiler:
    """Belongs to the event loop. Costs nothing until the first format is asked for, and then a process and 0.5 s.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: Vocabulary | None = None
        self._grammars: OrderedDict[Format, Grammar] = OrderedDict()
        self._making: dict[Format, asyncio.Task[Grammar]] = {}
        self._trial: Process | None = None
        # One at a time: what somebody's grammar takes must not multiply.
        self._turn = asyncio.Lock()

    async def compile(self, form: Format, within_s: float) -> Grammar:
        """The grammar of a format, kept from before or made now.

        Args:
            within_s: how long its caller can wait. It is made all the same, for the next time.

        Raises:
            RequestError: INVALID_OPTION, with what is wrong with it; BUDGET, it takes longer.
        """
        if (known := self._grammars.get(form)) is not None and not known.broken:
            self._grammars.move_to_end(form)
            return known
        if (making := self._making.get(form)) is None:
            making = self._making[form] = asyncio.create_task(self._make(form))
            making.add_done_callback(lambda made: self._made(form, made))
        done, _ = await asyncio.wait([making], timeout=max(0.0, within_s))
        if not done:
            raise RequestError(
                Reason.BUDGET,
                f"format.{form.kind}: expected it to be compiled within {within_s * 1e3:.0f} ms, and it was not. "
                f"That goes on: try again in {_RETRY_MS} ms, or allow more time.",
                numbers={"field": f"format.{form.kind}", "budget_ms": round(within_s * 1e3, 1)},
                retry_after_ms=_RETRY_MS,
            )
        return making.result()

    async def close(self) -> None:
        """Gives up what is being made, and ends the process that tries."""
        for making in list(self._making.values()):
            making.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self._end_trial()

    def _made(self, form: Format, made: asyncio.Task[Grammar]) -> None:
        del self._making[form]
        if not made.cancelled():
            made.exception()  # nobody may be left to hear of it

    async def _make(self, form: Format) -> Grammar:
        async with self._turn:
            form.grammar()
            if self._vocabulary is None:
                self._vocabulary = await asyncio.to_thread(Vocabulary, self._tokenizer)
            closing = await self._try(form, self._vocabulary)
            made = await asyncio.to_thread(compile_format, form, self._vocabulary, closing)
        self._grammars[form] = made
        if len(self._grammars) > _KEPT:
            self._grammars.popitem(last=False)
        return made

    async def _try(self, form: Format, vocabulary: Vocabulary) -> list[int]:
        """The closing that is found in a process that may die of it."""
        names = [name.decode() for name in vocabulary.special_names]
        try:
            if self._trial is None:
                self._trial = await _start()
            answer = await asyncio.wait_for(_ask(self._trial, [form.kind, form.text, names]), _TRIAL_S)
        except TimeoutError:
            await self._end_trial()
            raise invalid(
                form.kind, f"expected a grammar that is tried within {_TRIAL_S:g} s, got a larger one"
            ) from None
        except BaseException:
            await self._end_trial()  # what it still says is no answer to the next question
            raise
        if not answer:
            await self._end_trial()
            raise invalid(form.kind, "expected a grammar that takes 2 s and no deep recursion, got one that takes more")
        if isinstance(found := json.loads(answer), str):
            raise invalid(form.kind, f"expected what llguidance can follow, got: {_line(found)}")
        closing: list[int] = found
        return closing

    async def _end_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            await _kill(trial)


async def _start() -> Process:
    command = [sys.executable, "-m", "bise_daemon.grammar.trial"]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_LINE_BYTES)
    try:
        # Starting Python takes longer than most trials may.
        await asyncio.wait_for(_ask(process, [Kind.CHOICES, '["a"]', []]), _START_S)
    except BaseException:
        await _kill(process)
        raise
    return process


async def _ask(process: Process, question: list[Any]) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):  # then it says nothing either
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
    return await process.stdout.readline()


async def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


def compile_format(form: Format, vocabulary: Vocabulary, closing: list[int]) -> Grammar:
    """A grammar that was tried, over a model's vocabulary; takes milliseconds, or tens of them for large ones.

    Args:
        closing: what the trial found.

    Raises:
        RequestError: INVALID_OPTION, it holds over bytes and not over tokens.
    """
    source = form.grammar()
    tokens = LLMatcher(vocabulary.tokens, source, log_level=0, limits=LIMITS)
    spelled = LLMatcher(vocabulary.bytes, source, log_level=0, limits=LIMITS)
    shortest = vocabulary.read(closing)
    ahead = tokens.deep_copy()
    if ahead.try_consume_tokens(shortest) < len(shortest) or not ahead.is_accepting():
        problem = ahead.get_error() or "an end that its bytes allow and the model's tokens don't"
        raise invalid(form.kind, f"expected what llguidance can follow, got: {_line(problem)}")
    return Grammar(vocabulary, tokens, spelled, closing, max(1, len(shortest)))


def _line(problem: str) -> str:
    return " ".join(problem.split())[:400]
