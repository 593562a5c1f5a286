"""The engine's thread on a scripted model: who gets which events, whatever else happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bise_daemon.engine.detokenize import ByteDetokenizer
from bise_daemon.engine.events import Event, Failed, Finish, Finished
from bise_daemon.engine.generation import Piece
from bise_daemon.engine.loop import Engine, _Stop
from bise_daemon.errors import Reason
from bise_daemon.scheduler.scheduler import Limits
from scripted_engine import NAN_PROMPT, Rig, ScriptedRunner, answer, text_of

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


@settings(max_examples=40, deadline=None)
@given(
    limits=st.builds(
        lambda slots, context, share, chunk: Limits(slots, context, max(context, int(slots * context * share)), chunk),
        st.integers(1, 4),
        st.integers(8, 32),
        st.floats(0.3, 1),
        st.integers(1, 6),
    ),
    asked=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12), st.booleans()), min_size=1, max_size=10),
    aborts=st.dictionaries(st.integers(0, 60), st.integers(0, 9), max_size=5),
)
def test_whoever_leaves_the_others_get_their_own_answers(
    limits: Limits, asked: list[tuple[int, int, bool]], aborts: dict[int, int]
) -> None:
    rig = Rig(limits)
    left = set()
    wanted = {}
    for place, (prompt_tokens, max_tokens, is_broken) in enumerate(asked):
        prompt = [NAN_PROMPT if is_broken else place + 1] * prompt_tokens
        if rig.scheduler.fits(prompt_tokens, max_tokens):
            wanted[f"r{place}"] = (prompt, max_tokens, is_broken)
            rig.submit(f"r{place}", prompt, max_tokens)

    def leave(name: str) -> Callable[[], None]:
        def act() -> None:
            left.add(name)
            rig.engine.abort(name)

        return act

    rig.runner.on_step = {step: leave(f"r{place}") for step, place in aborts.items()}
    rig.start()
    # Who leaves has no last event to wait for; a request behind all others has.
    rig.submit("last", [127], 1)
    rig.inbox.complete("last")
    stayed = [name for name in wanted if name not in left]
    for name in stayed:
        prompt, max_tokens, is_broken = wanted[name]
        if is_broken:
            assert rig.failed(name).error.reason is Reason.ENGINE_FAILED
        else:
            assert rig.tokens(name) == answer(prompt, max_tokens)
    rig.engine.stop()
    assert rig.engine.ended.exception() is None
    assert (rig.scheduler.slots_used, rig.scheduler.waiting) == (0, 0)


# One slot and a prompt of two chunks: steps 0 and 1 are its prefill, those from 2 on its decode. The step that runs
# when somebody leaves still counts, the next one does not.
@pytest.mark.parametrize(
    ("leaver", "before_step", "events"),
    [("second", 0, 0), ("first", 1, 1), ("first", 4, 4)],
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


def test_leaving_twice_or_late_or_unheard_of_is_harmless(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    rig.submit("a", [4], 2)
    rig.inbox.complete("a")
    for name in ("a", "a", "never"):
        rig.engine.abort(name)
    rig.settle()
    assert rig.engine.counters.cancelled == 0


def test_logits_that_are_not_numbers_fail_one_answer_only(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.submit("before", [5], 9)
    rig.submit("broken", [NAN_PROMPT, 5], 9)
    rig.submit("after", [6], 9)
    rig.start()
    error = rig.failed("broken").error
    assert error.reason is Reason.ENGINE_FAILED
    assert "bise verify" in error.message
    assert rig.tokens("before") == answer([5], 9)
    assert rig.tokens("after") == answer([6], 9)
    assert rig.engine.counters.failed == 1


class BrokenDetokenizer:
    """Breaks at its token number `at`, or at the end."""

    def __init__(self, at: int | None) -> None:
        self._left = at

    def push(self, token_id: int) -> str:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise ZeroDivisionError("a bug")
        return "x"

    def finish(self) -> str:
        raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("at", [0, 2, None], ids=["first token", "later token", "end"])
def test_a_bug_in_one_answer_fails_it_alone(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture, at: int | None
) -> None:
    rig = make_rig()
    rig.submit("broken", [5], 4, detokenizer=BrokenDetokenizer(at))
    rig.submit("sound", [6], 9)
    rig.start()
    error = rig.failed("broken").error
    assert error.reason is Reason.ENGINE_FAILED
    assert "ZeroDivisionError" in error.message
    assert rig.tokens("sound") == answer([6], 9)
    rig.settle()
    assert (rig.scheduler.slots_used, rig.engine.counters.failed) == (0, 1)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_step_that_fails_fails_everyone_and_the_engine_says_why(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1)
    failure = MemoryError("no more")

    def fail() -> None:
        rig.submit("queued", [7], 9)
        raise failure

    rig.submit("running", [5], 9)
    rig.submit("waiting", [6], 9)
    rig.runner.on_step[2] = fail
    rig.start()
    for name in ("running", "waiting", "queued"):
        error = rig.failed(name).error
        assert error.reason is Reason.ENGINE_FAILED
        assert "no more" in error.message
    assert rig.engine.ended.exception(20) is failure
    assert rig.engine.counters.failed == 3
    assert rig.engine.counters.busy_since_ms is None


def test_after_a_failure_requests_are_refused_at_once(make_rig: MakeRig) -> None:
    rig = make_rig()

    def fail() -> None:
        raise MemoryError

    rig.runner.on_step[0] = fail
    rig.start()
    rig.submit("a", [5])
    rig.inbox.complete("a")
    rig.engine.ended.exception(20)
    rig.submit("late", [5])
    assert rig.failed("late").error.reason is Reason.ENGINE_FAILED
    rig.engine.abort("late")
    rig.engine.stop()


def test_stopping_fails_who_is_still_here_and_who_comes_later(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1)
    rig.submit("running", [5], 40)
    rig.submit("waiting", [6], 40)

    def stop() -> None:
        rig.engine._commands.put(_Stop())
        rig.submit("queued behind the end", [7])
        rig.submit("left", [7])
        rig.engine.abort("left")

    rig.runner.on_step[3] = stop
    rig.start()
    for name in ("running", "waiting", "queued behind the end"):
        assert rig.failed(name).error.reason is Reason.DRAINING
    assert rig.engine.ended.exception(20) is None
    assert len(rig.runner.steps) == 4
    assert rig.inbox.events["left"] == []
    assert (rig.engine.counters.failed, rig.engine.counters.cancelled) == (3, 1)
    rig.submit("late", [5])
    assert rig.failed("late").error.reason is Reason.DRAINING


def test_no_request_is_forgotten_however_it_races_with_the_end(make_rig: MakeRig) -> None:
    rig = make_rig(slots=2)
    rig.start()
    names = [f"r{number}" for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        submitted = [pool.submit(rig.submit, name, [5], 2) for name in names]
        submitted[50].result(20)
        rig.engine.stop()
    ends = [rig.inbox.complete(name)[-1] for name in names]  # the inbox allows each one end
    assert all(isinstance(end, Finished | Failed) for end in ends)


def test_an_engine_whose_listener_is_gone_ends_and_says_so() -> None:
    def gone(events: Sequence[tuple[str, Event]]) -> None:
        raise RuntimeError("event loop is closed")

    rig = Rig(Limits(1, 16, 16, 4))
    rig.engine = Engine(rig.scheduler, rig.runner, rig.runner, gone)
    rig.submit("a", [5])
    rig.start()
    assert isinstance(rig.engine.ended.exception(20), RuntimeError)
    rig.engine.stop()


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
        rig.submit("holds the slot", [9], 40)
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
    with pytest.raises(KeyError):
        runner.decode(0, [7], [3])
    with pytest.raises(KeyError):
        runner.decode(1, [7], [2])
