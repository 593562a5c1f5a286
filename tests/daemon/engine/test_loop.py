"""The engine's thread on a scripted model: who gets which events, whatever else happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bise_daemon.engine.detokenize import ByteDetokenizer
from bise_daemon.engine.events import Drafts, Event, Finish, Finished
from bise_daemon.engine.generation import Piece
from bise_daemon.errors import Reason
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.request import Priority
from scripted_engine import NAN_PROMPT, Rig, ScriptedRunner, answer, copying_token, next_token, text_of

MakeRig = Callable[..., Rig]


def test_an_answer_from_its_first_token_to_its_end(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    rig.submit("a", [5, 6, 7], 6)
    assert rig.tokens("a") == answer([5, 6, 7], 6)
    assert rig.text("a") == text_of(answer([5, 6, 7], 6))
    assert rig.finished("a").finish is Finish.LENGTH
    assert rig.finished("a").completion_tokens == 6


def test_answers_made_together_are_those_made_alone(make_rig: MakeRig) -> None:
    rig = make_rig(slots=3, chunk=4)
    asked = {f"r{place}": ([place + 1] * (1 + 3 * place), 2 + 5 * (place % 3)) for place in range(8)}
    for name, (prompt, max_tokens) in asked.items():
        rig.submit(name, prompt, max_tokens)
    rig.start()
    for name, (prompt, max_tokens) in asked.items():
        assert rig.tokens(name) == answer(prompt, max_tokens)
    assert any(len(slots) > 1 for kind, slots in rig.runner.steps if kind == "decode")


@st.composite
def _limits(draw: st.DrawFn) -> Limits:
    slots, context = draw(st.integers(1, 4)), draw(st.integers(8, 32))
    return Limits(
        slots,
        context,
        kv_budget_tokens=max(context, int(slots * context * draw(st.floats(0.3, 1)))),
        prefill_chunk_tokens=draw(st.integers(1, 6)),
        spare_slots=draw(st.integers(0, 3)),
        idle_tokens=draw(st.integers(0, 64)),
        draft_tokens=draw(st.integers(0, 4)),
        smallest_chunk=draw(st.integers(1, 2)),
    )


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    limits=_limits(),
    successor=st.sampled_from([next_token, copying_token]),
    asked=st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 12), st.sampled_from(Priority), st.booleans()),
        min_size=1,
        max_size=10,
    ),
    aborts=st.dictionaries(st.integers(0, 60), st.integers(0, 9), max_size=5),
    budgets=st.dictionaries(st.integers(0, 60), st.integers(0, 64), max_size=3),
)
def test_whoever_leaves_and_whatever_memory_does_the_others_get_their_own_answers(
    limits: Limits,
    successor: Callable[[Sequence[int]], int],
    asked: list[tuple[int, int, Priority, bool]],
    aborts: dict[int, int],
    budgets: dict[int, int],
) -> None:
    rig = Rig(limits, successor)
    left: dict[str, Future[None]] = {}
    wanted = {}
    for place, (prompt_tokens, max_tokens, priority, is_broken) in enumerate(asked):
        # Every other request begins like an earlier one.
        prompt = [NAN_PROMPT if is_broken else 1 + place % 2] + [5] * (prompt_tokens - 1)
        if rig.scheduler.fits(prompt_tokens, max_tokens):
            wanted[f"r{place}"] = (prompt, max_tokens, is_broken)
            left[f"r{place}"] = Future()
            rig.submit(f"r{place}", prompt, max_tokens, priority=priority)

    def disturb(step: int) -> Callable[[], None]:
        def act() -> None:
            rig.scheduler.check_integrity()
            if step in budgets:
                rig.engine.limit(replace(limits, kv_budget_tokens=budgets[step], idle_tokens=budgets[step] // 2))
            if (name := f"r{aborts.get(step)}") in left and not left[name].done():
                rig.engine.abort(name)
                left[name].set_result(None)

        return act

    rig.runner.on_step = {step: disturb(step) for step in range(61)}
    rig.start()
    for name, (prompt, max_tokens, is_broken) in wanted.items():
        ended = rig.inbox.last(name)
        wait([ended, left[name]], 20, FIRST_COMPLETED)
        if not ended.done():
            assert left[name].done()
        elif is_broken:
            assert rig.failed(name).error.reason is Reason.ENGINE_FAILED
        else:
            assert rig.tokens(name) == answer(prompt, max_tokens, successor)
    rig.engine.stop()
    assert rig.engine.ended.exception() is None
    assert (rig.scheduler.running, list(rig.scheduler.waiting)) == ([], [])
    rig.scheduler.check_integrity()


# One slot and a prompt of two chunks: steps 0 and 1 are its prefill, those from 2 on its decode. A decode step that
# runs when somebody leaves still counts, the next one does not; a step of their own prompt is given up.
@pytest.mark.parametrize(
    ("leaver", "before_step", "events"),
    [("second", 0, 0), ("first", 1, 0), ("first", 4, 4)],
    ids=["waiting", "prefill", "decode"],
)
def test_who_leaves_has_no_more_events_and_no_slot(
    make_rig: MakeRig, leaver: str, before_step: int, events: int
) -> None:
    rig = make_rig(slots=1, chunk=4)
    asked = {"first": ([9] * 8, 40), "second": ([8], 3)}
    for name, (prompt, max_tokens) in asked.items():
        rig.submit(name, prompt, max_tokens)
    rig.runner.on_step[before_step] = lambda: rig.engine.abort(leaver)
    rig.start()
    (stayer,) = asked.keys() - {leaver}
    assert rig.tokens(stayer) == answer(*asked[stayer])
    rig.settle()
    assert len(rig.inbox.events[leaver]) == events
    assert not any(isinstance(event, Finished) for event in rig.inbox.events[leaver])
    assert rig.engine.counters.cancelled == 1


def test_a_prompt_computed_ahead_is_no_answer_and_its_step_is_not_given_up(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4, idle_tokens=64)
    rig.submit("left", [9] * 8, 0)
    rig.runner.on_step[0] = lambda: rig.engine.abort("left")
    rig.start()
    rig.submit("ahead", [9] * 8, 0)
    finished = rig.finished("ahead")
    assert (finished.finish, finished.completion_tokens, finished.cached_tokens) == (Finish.LENGTH, 0, 4)
    assert rig.text("ahead") == ""
    rig.submit("a", [9] * 8, 5)
    assert rig.tokens("a") == answer([9] * 8, 5)
    assert rig.finished("a").cached_tokens == 6
    counters = rig.engine.counters
    assert rig.runner.interruptions == counters.cancelled == 0
    assert counters.finished == 1


def test_leaving_twice_or_late_or_unheard_of_is_harmless(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    rig.submit("a", [4], 2)
    rig.inbox.complete("a")
    for name in ("a", "a", "never"):
        rig.engine.abort(name)
    rig.settle()
    assert rig.engine.counters.cancelled == 0


def test_one_delivery_a_step_with_the_pieces_of_all_its_rows(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.submit("a", [5], 3)
    rig.submit("b", [6], 3)
    rig.start()
    rig.inbox.complete("a")
    rig.inbox.complete("b")
    kinds = [[(name, type(event).__name__) for name, event in delivery] for delivery in rig.inbox.deliveries]
    assert kinds == [
        [("a", "Piece")],
        [("a", "Piece")],
        [("b", "Piece")],
        [("a", "Piece"), ("b", "Piece"), ("a", "Finished")],
        [("b", "Piece"), ("b", "Finished")],
    ]


def test_eos_ends_an_answer_and_is_no_part_of_it(make_rig: MakeRig) -> None:
    rig = make_rig()
    tokens = answer([5], 4)
    rig.submit("a", [5], 9, eos={tokens[3]})
    rig.start()
    assert rig.tokens("a") == tokens[:3]
    assert rig.text("a") == text_of(tokens[:3])
    assert rig.finished("a").finish is Finish.EOS
    assert rig.finished("a").completion_tokens == 3
    assert rig.engine.counters.completion_tokens == 3


def test_a_stop_string_over_two_tokens_ends_an_answer_before_it(make_rig: MakeRig) -> None:
    rig = make_rig()
    tokens = answer([5], 4)
    rig.submit("a", [5], 9, stops=[f"{tokens[2]} {tokens[3]} "])
    rig.start()
    assert rig.text("a") == text_of(tokens[:2])
    assert rig.tokens("a") == tokens
    assert rig.finished("a").finish is Finish.STOP_SEQUENCE


def test_text_held_back_comes_with_the_end(make_rig: MakeRig) -> None:
    rig = make_rig()
    tokens = answer([5], 2)
    rig.submit("a", [5], 2, stops=[f" {tokens[1]} and more"])
    rig.submit("b", [5], 2, detokenizer=ByteDetokenizer(lambda token: b"\xf0\x9f\x8c"))
    rig.start()
    assert rig.text("a") == text_of(tokens)
    assert rig.text("b") == "\N{REPLACEMENT CHARACTER}" * 2


@pytest.mark.parametrize("phase", ["waiting", "prefill", "decode"])
def test_a_deadline_brings_back_what_there_is(make_rig: MakeRig, phase: str) -> None:
    rig = make_rig(slots=1, chunk=4)
    late = rig.clock.now + 50
    if phase == "waiting":
        rig.submit("holds the slot", [9], 40, priority=Priority.CRITICAL)
    rig.submit("a", [5] * 8, 40, deadline_ms=late)

    def wait() -> None:
        rig.clock.now = late

    # Without anyone before it, steps 0 and 1 are its prefill, 2 and on its decode.
    rig.runner.on_step[{"waiting": 3, "prefill": 0, "decode": 4}[phase]] = wait
    rig.start()
    finished = rig.finished("a")
    assert finished.finish is Finish.DEADLINE
    came = {"waiting": 0, "prefill": 0, "decode": 4}[phase]
    assert rig.tokens("a") == answer([5] * 8, 40)[:came]
    assert finished.completion_tokens == came
    assert (finished.times.started is None) is (phase == "waiting")
    assert (finished.times.first_token is None) is (phase != "decode")
    assert finished.times.ended == late


def test_who_has_no_time_left_does_not_wait_for_the_step_of_another(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2, chunk=1)
    late = rig.clock.now + 50
    rig.submit("late", [5], 40, deadline_ms=late)
    rig.submit("long", [6] * 20, 2)
    told: list[bool] = []

    def pass_time() -> None:
        rig.clock.now = late

    rig.runner.on_step[4] = pass_time
    rig.runner.on_step[5] = lambda: told.append(isinstance(rig.inbox.events["late"][-1], Finished))
    rig.start()
    rig.inbox.complete("long")
    assert told == [True]


def test_times_are_in_the_order_of_what_happened(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)
    rig.submit("a", [5] * 8, 3)

    def tick() -> None:
        rig.clock.now += 10

    rig.runner.on_step = dict.fromkeys(range(8), tick)
    began = rig.clock.now
    rig.start()
    times = rig.finished("a").times
    assert (times.started, times.first_token, times.ended) == (began, began + 20, began + 40)


def test_the_counters_tell_what_was_done(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)
    rig.submit("a", [5] * 6, 4)
    rig.submit("b", [NAN_PROMPT], 2)
    seen = []
    counters = rig.engine.counters

    def look() -> None:
        seen.append((counters.slots_used, counters.waiting, counters.cached_tokens, counters.busy_since_ms))

    rig.runner.on_step = {0: look, 3: look}
    rig.start()
    rig.failed("b")
    rig.engine.stop()
    # Step 0 is the prompt's first four tokens, 1 its last two, 2 and 3 decode: a step sees what the one before left.
    assert seen == [(1, 1, 0, rig.clock.now), (1, 1, 7, rig.clock.now)]
    assert (counters.finished, counters.failed, counters.cancelled) == (1, 1, 0)
    assert (counters.prompt_tokens, counters.completion_tokens, counters.steps) == (7, 4, 6)
    assert (counters.slots_used, counters.waiting, counters.cached_tokens) == (0, 0, 0)
    assert counters.busy_since_ms is None


def test_the_longest_wait_between_two_tokens_is_kept(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1)
    rig.submit("a", [5, 6], 6)
    waits = [700.0, 10.0, 40.0, 20.0, 40.0, 10.0]  # the first is before the first token

    def pass_time(wait_ms: float) -> Callable[[], None]:
        def act() -> None:
            rig.clock.now += wait_ms

        return act

    rig.runner.on_step = {step: pass_time(wait_ms) for step, wait_ms in enumerate(waits)}
    rig.start()
    times = rig.finished("a").times
    assert times.longest_gap_ms == 40
    assert (times.last_token, times.ended) == (rig.clock.now, rig.clock.now)


def test_one_token_has_no_gap(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.submit("a", [5], 1)
    rig.start()
    assert rig.finished("a").times.longest_gap_ms == 0


def test_what_steps_took_is_told_with_what_they_worked_on(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2, chunk=4)
    rig.submit("a", [5] * 6, 3)
    rig.submit("b", [6], 3)

    def tick() -> None:
        rig.clock.now += 10

    rig.runner.on_step = dict.fromkeys(range(20), tick)
    rig.start()
    rig.tokens("a")
    rig.tokens("b")
    rig.engine.stop()
    assert rig.times.heard == [
        ("prefill", 4, 0, 10),
        ("prefill", 2, 4, 10),
        ("decode", 1, 6, 10),
        ("prefill", 1, 0, 10),
        ("decode", 2, 7 + 1, 10),
        ("decode", 1, 2, 10),
    ]


def test_a_chunk_and_tokens_in_one_step_are_told_as_one_and_give_what_each_gives_alone(make_rig: MakeRig) -> None:
    rig = make_rig(slots=3, chunk=4, mixes=True)
    alone = make_rig(slots=3, chunk=4)
    for each in (rig, alone):
        each.submit("a", [5] * 3, 9)
        each.submit("b", [6] * 10, 3)
        each.submit("c", [7, 8], 3)
        each.start()
    for name in "abc":
        assert rig.tokens(name) == alone.tokens(name)
    rig.engine.stop()
    assert "mixed" in [kind for kind, *_ in rig.times.heard]
    assert rig.engine.counters.prompt_tokens == 3 + 10 + 2


def test_what_comes_between_two_steps_belongs_to_the_second(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)

    def deliver_slowly(events: Sequence[tuple[str, Event]]) -> None:
        rig.clock.now += 3
        rig.inbox.deliver(events)

    rig.engine = rig.make_engine(deliver_slowly)
    rig.runner.on_step = dict.fromkeys(range(20), lambda: setattr(rig.clock, "now", rig.clock.now + 10))
    rig.submit("a", [5, 6], 4)
    rig.start()
    rig.tokens("a")
    rig.engine.stop()
    assert [took_ms for *_, took_ms in rig.times.heard] == [10, 13, 13, 13]


def test_guesses_change_when_tokens_come_and_nothing_else(make_rig: MakeRig) -> None:
    plain, drafting = make_rig(successor=copying_token), make_rig(successor=copying_token, draft_tokens=8)
    prompt = answer([5], 20, copying_token)
    for rig in (plain, drafting):
        rig.submit("a", prompt, 40)
        rig.start()
        assert rig.tokens("a") == answer(prompt, 40, copying_token)
        assert rig.text("a") == text_of(answer(prompt, 40, copying_token))
        assert rig.finished("a").completion_tokens == 40
    drafts = drafting.finished("a").drafts
    assert 0 < drafts.confirmed < drafts.guessed
    assert drafting.engine.counters.drafts == drafts
    assert len(drafting.runner.steps) == len(plain.runner.steps) - drafts.confirmed
    assert {kind for kind, _ in plain.runner.steps} == {"prefill", "decode"}
    assert {kind for kind, _ in drafting.runner.steps} >= {"prefill", "verify"}
    assert plain.finished("a").drafts == plain.engine.counters.drafts == Drafts()
    heard = [tokens for kind, tokens, *_ in drafting.times.heard if kind == "verify"]
    assert sum(heard) == drafts.guessed + len(heard)


def test_an_answer_that_ends_with_a_guess_ends_there(make_rig: MakeRig) -> None:
    last = 60

    def says_it_again(tokens: Sequence[int]) -> int:
        return last if len(tokens) % 40 == 10 else 3 + len(tokens) % 8

    rig = make_rig(successor=says_it_again, draft_tokens=3)
    prompt = answer([5], 20, says_it_again)
    tokens = answer(prompt, 31, says_it_again)
    assert (prompt[9], tokens[30]) == (last, last)
    rig.submit("eos", prompt, 40, eos={last})
    rig.start()
    assert rig.tokens("eos") == tokens[:30]
    rig.submit("stop", prompt, 40, stops=[f"{tokens[29]} {last} "])
    assert rig.text("stop") == text_of(tokens[:29])
    for name in ("eos", "stop"):
        assert rig.finished(name).drafts.confirmed > 0
    rig.settle()
    assert rig.scheduler.running == []


def test_expired_requests_are_counted_as_such(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1)
    rig.submit("late", [5], 40, deadline_ms=rig.clock.now + 50)
    rig.submit("waits and is late", [6], 40, deadline_ms=rig.clock.now + 50)
    rig.submit("has time", [6], 3)

    def pass_time() -> None:
        rig.clock.now += 50

    rig.runner.on_step[3] = pass_time
    rig.start()
    assert rig.tokens("has time") == answer([6], 3)
    assert rig.engine.counters.expired == 2
    assert rig.engine.counters.finished == 3


def test_new_limits_take_idle_prefixes_at_once(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2, idle_tokens=64)
    rig.start()
    rig.submit("a", [5] * 9, 3)
    rig.tokens("a")
    rig.submit("b", [6] * 7, 3)
    rig.tokens("b")
    assert sum(map(bool, rig.runner.slots)) == 2
    held: list[list[int]] = []
    rig.runner.on_step[len(rig.runner.steps)] = lambda: held.extend(rig.runner.slots)
    rig.engine.limit(replace(rig.limits, idle_tokens=0))
    rig.settle()
    assert held == [[], []]
    assert rig.engine.counters.idle_tokens == 0


def test_limits_that_change_all_the_time_keep_nobody_from_their_turn(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2, chunk=2, ageing_ms=50, idle_tokens=8)
    rig.submit("first", [5], 40, priority=Priority.CRITICAL)
    rig.submit("patient", [6], 2, priority=Priority.BACKGROUND)

    def change(step: int) -> Callable[[], None]:
        def act() -> None:
            rig.clock.now += 10
            rig.engine.limit(replace(rig.limits, idle_tokens=step % 8))

        return act

    rig.runner.on_step = {step: change(step) for step in range(60)}
    rig.start()
    rig.tokens("first")
    assert rig.tokens("patient") == answer([6], 2)
    ends = [name for delivery in rig.inbox.deliveries for name, event in delivery if isinstance(event, Finished)]
    assert ends == ["patient", "first"]


def test_a_probe_learns_from_steps_that_nobody_waits_for_and_touches_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2, idle_tokens=64)
    rig.start()
    rig.submit("a", [5] * 6, 3)
    rig.tokens("a")
    rig.settle()
    held, steps, heard = [list(slot) for slot in rig.runner.slots], rig.engine.counters.steps, len(rig.times.heard)

    def tick() -> None:
        rig.clock.now += 7

    rig.runner.on_step = dict.fromkeys(range(len(rig.runner.steps), 99), tick)
    rig.engine.probe()
    rig.engine.stop()
    probed = rig.times.heard[heard:]
    assert probed
    assert {(kind, rows, took_ms) for kind, rows, _, took_ms in probed} == {("decode", 1, 7)}
    assert rig.runner.slots == held
    assert rig.engine.counters.steps == steps


def test_a_probe_leaves_the_device_to_whoever_has_work(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, chunk=4)
    rig.submit("a", [5] * 6, 3)
    rig.runner.on_step[0] = rig.engine.probe
    rig.start()
    assert rig.tokens("a") == answer([5] * 6, 3)
    assert [kind for kind, _ in rig.runner.steps] == ["prefill", "prefill", "decode", "decode"]


def test_background_work_that_had_to_wait_is_counted_and_comes_out_the_same(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, idle_tokens=64, spare_slots=1)
    rig.submit("low", [5] * 6, 12, priority=Priority.BACKGROUND)
    rig.runner.on_step[4] = lambda: rig.submit("high", [6], 3, priority=Priority.CRITICAL)
    rig.start()
    assert rig.tokens("high") == answer([6], 3)
    assert rig.tokens("low") == answer([5] * 6, 12)
    assert rig.engine.counters.preempted == 1
    # It found what it had computed when it came back, so that this was no prompt twice.
    assert rig.engine.counters.prompt_tokens == 6 + 1


def test_pieces_carry_the_choice(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.submit("a", [5], 1)
    rig.start()
    piece, _ = rig.inbox.complete("a")
    assert isinstance(piece, Piece)
    assert piece.choice is not None
    assert piece.choice.token_id == answer([5], 1)[0]


def test_the_scripted_cache_notices_a_wrong_position() -> None:
    runner = ScriptedRunner(2, 16)
    runner.prefill(0, 0, [5, 6], samples=False)
    with pytest.raises(AssertionError, match="slot 0 holds 2 tokens, not 3"):
        runner.decode(0, [7], [3])
    with pytest.raises(AssertionError, match="slot 1 holds 0 tokens, not 2"):
        runner.decode(1, [7], [2])
    with pytest.raises(AssertionError):
        runner.copy(0, 1, 3)


def test_the_scripted_cache_forgets_what_lay_behind_a_write() -> None:
    runner = ScriptedRunner(1, 16)
    runner.prefill(0, 0, [5, 6, 7], samples=False)
    runner.decode(0, [8], [1])
    with pytest.raises(AssertionError, match="slot 0 holds 2 tokens, not 3"):
        runner.decode(0, [9], [3])
