"""What fails ends as little as it can: an answer, or the engine with a reason for everybody."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from bise_daemon.engine.events import Event, Failed, Finished
from bise_daemon.engine.loop import _Stop
from bise_daemon.errors import Reason
from bise_daemon.scheduler.limits import Limits
from scripted_engine import NAN_PROMPT, Rig, answer

MakeRig = Callable[..., Rig]


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
    assert (rig.scheduler.running, rig.engine.counters.failed) == ([], 1)
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
    rig.engine = rig.make_engine(gone)
    rig.submit("a", [5])
    rig.start()
    assert isinstance(rig.engine.ended.exception(20), RuntimeError)
    rig.engine.stop()
