"""What the watchdog is fed by: the engine's thread, when it gets on or has nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from scripted_engine import Rig

MakeRig = Callable[..., Rig]
_PATIENCE_S = 30


def test_an_idle_engine_answers(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start()
    for _ in range(3):
        answered = Event()
        rig.engine.beat(answered.set)
        assert answered.wait(_PATIENCE_S)


def test_a_step_since_the_last_beat_is_an_answer(make_rig: MakeRig) -> None:
    rig, answered = make_rig(), []
    for step in range(3):
        rig.runner.on_step[step] = lambda: rig.engine.beat(lambda: answered.append(rig.engine.counters.steps))
    rig.submit("a", [5], 9)
    rig.start()
    rig.finished("a")
    assert answered == [1, 2, 3]


def test_two_beats_within_a_step_have_one_answer(make_rig: MakeRig) -> None:
    rig, answered = make_rig(), []

    def ask_twice() -> None:
        for _ in range(2):
            rig.engine.beat(lambda: answered.append(rig.engine.counters.steps))

    rig.runner.on_step[1] = ask_twice
    rig.submit("a", [5], 9)
    rig.start()
    rig.finished("a")
    assert answered == [2]


def test_a_thread_that_is_stuck_in_a_step_does_not_answer(make_rig: MakeRig) -> None:
    rig, stuck, go_on, answered = make_rig(), Event(), Event(), Event()

    def hang() -> None:
        rig.engine.beat(answered.set)
        stuck.set()
        assert go_on.wait(_PATIENCE_S)

    rig.runner.on_step[1] = hang
    rig.submit("a", [5], 9)
    rig.start()
    assert stuck.wait(_PATIENCE_S)
    assert not answered.is_set()
    go_on.set()
    assert answered.wait(_PATIENCE_S)
