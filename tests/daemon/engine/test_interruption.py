"""Leaving while one's own prompt is computed: the step is given up, and nothing but that step is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bise_daemon.engine.runner import Interrupted
from bise_daemon.scheduler.request import Priority
from scripted_engine import GARBAGE, Rig, ScriptedRunner, answer

MakeRig = Callable[..., Rig]
PROMPT = list(range(5, 17))


def test_who_leaves_in_their_prefill_gives_the_step_up(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)
    rig.submit("leaver", PROMPT)
    rig.submit("next", [9, 8], 3)
    rig.runner.on_step[1] = lambda: rig.engine.abort("leaver")
    rig.start()
    assert rig.tokens("next") == answer([9, 8], 3)
    assert rig.runner.interruptions == 1
    assert rig.inbox.events["leaver"] == []
    counters = rig.engine.counters
    assert (counters.cancelled, counters.prompt_tokens) == (1, 4 + 2)
    assert rig.engine.ended.done() is False


def test_a_step_that_was_given_up_counts_for_nothing_and_teaches_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)
    rig.submit("leaver", PROMPT)
    rig.runner.on_step[1] = lambda: rig.engine.abort("leaver")
    rig.start()
    rig.settle()
    assert len(rig.runner.steps) == 3
    assert rig.engine.counters.steps == 2
    assert [kind for kind, *_ in rig.times.heard] == ["prefill", "prefill"]
    assert [tokens for _, tokens, *_ in rig.times.heard] == [4, 1]


def test_what_was_computed_before_stays_for_the_next_attempt(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4, idle_tokens=64)
    rig.submit("first", PROMPT)
    rig.runner.on_step[2] = lambda: rig.engine.abort("first")
    rig.start()
    # Its own slot is free again once somebody else runs there; this one asks for what both begin with.
    rig.submit("second", PROMPT, 6)
    assert rig.tokens("second") == answer(PROMPT, 6)
    assert rig.finished("second").cached_tokens == 8
    assert rig.engine.counters.reused_tokens == 8
    assert rig.engine.counters.prompt_tokens == len(PROMPT)


@pytest.mark.parametrize(
    ("leaver", "before_step"), [("waiting", 0), ("decoding", 2), ("never heard of", 1)], ids=lambda each: str(each)
)
def test_nobody_elses_leaving_interrupts_a_prefill(make_rig: MakeRig, leaver: str, before_step: int) -> None:
    rig = make_rig(slots=2, chunk=4)
    rig.submit("decoding", [5], 40, priority=Priority.CRITICAL)
    rig.submit("prompt", PROMPT, 6, priority=Priority.CRITICAL)
    rig.submit("waiting", [7], 40)
    # Step 0 is the first's prompt; the second's runs in turns with the first's tokens.
    rig.runner.on_step[before_step] = lambda: rig.engine.abort(leaver)
    rig.start()
    assert rig.tokens("prompt") == answer(PROMPT, 6)
    assert [kind for kind, _ in rig.runner.steps[:3]] == ["prefill", "decode", "prefill"]
    assert rig.runner.interruptions == 0


def test_a_step_that_somebody_else_was_to_be_in_is_run_again(make_rig: MakeRig) -> None:
    """An interruption meant for a prefill may reach the step after it; nobody in that one is the worse for it."""
    rig = make_rig(slots=2)
    rig.submit("a", [5, 6], 6)
    rig.submit("b", [6, 7], 6)
    for step in (3, 5, 6):
        rig.runner.on_step[step] = rig.runner.interrupt
    rig.start()
    assert rig.tokens("a") == answer([5, 6], 6)
    assert rig.tokens("b") == answer([6, 7], 6)
    assert rig.engine.counters.steps == len(rig.runner.steps) - 3


def test_an_interruption_after_the_last_step_hits_nobody(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    rig.submit("a", [5], 2)
    rig.tokens("a")
    rig.runner.interrupt()
    rig.submit("b", [6], 4)
    assert rig.tokens("b") == answer([6], 4)


def test_an_interruption_that_reaches_a_probe_ends_nothing_but_the_probe(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.runner.on_step[2] = rig.runner.interrupt
    rig.start()
    rig.engine.probe()
    rig.submit("a", [6], 4)
    assert rig.tokens("a") == answer([6], 4)
    assert [took[0] for took in rig.times.heard[:3]] == ["decode", "decode", "prefill"]


@pytest.mark.parametrize(
    "step",
    [
        lambda runner: runner.prefill(0, 2, [7, 8], True),
        lambda runner: runner.verify(0, 2, [7, 8], 2),
        lambda runner: runner.decode(0, [7], [2]),
    ],
    ids=["prefill", "verify", "decode"],
)
def test_a_scripted_step_that_is_given_up_leaves_garbage_behind_what_was_there(step: Any) -> None:
    runner = ScriptedRunner(1, 16)
    runner.prefill(0, 0, [5, 6], samples=False)
    runner.on_step[1] = runner.interrupt
    with pytest.raises(Interrupted):
        step(runner)
    assert runner.slots[0][:2] == [5, 6]
    assert set(runner.slots[0][2:]) == {GARBAGE}


def test_whoever_comes_gives_up_what_nobody_waits_for(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4, idle_tokens=64, one_way=False)
    rig.submit("first", PROMPT, 3)
    # Three chunks, two more tokens, then the answer is computed as a prompt's.
    rig.runner.on_step[5] = lambda: rig.submit("second", [9, 8], 3)
    rig.start()
    assert rig.tokens("second") == answer([9, 8], 3)
    assert rig.tokens("first") == answer(PROMPT, 3)
    assert rig.runner.interruptions >= 1
