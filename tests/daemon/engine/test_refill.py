"""A pinned prefix that was let go comes back into its slot, between two pieces of work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from scripted_engine import Rig, answer

MakeRig = Callable[..., Rig]
PREFIX = list(range(20, 30))
SLOT = 2


class Shelf:
    """Where the prefix lies, for a rig whose last slot is kept for it.

    Attributes:
        is_empty: it is there no more: what is brought instead is of no use.
        visits: how often somebody came for it.
    """

    def __init__(self, rig: Rig) -> None:
        self._slots = rig.runner.slots
        self.is_empty = False
        self.visits = 0

    def fill(self) -> bool:
        self.visits += 1
        self._slots[SLOT][:] = [9] * 4 if self.is_empty else PREFIX
        return not self.is_empty


def _started(make_rig: MakeRig) -> tuple[Rig, Shelf]:
    rig = make_rig(slots=1, spare_slots=2, idle_tokens=40)
    rig.start()
    return rig, Shelf(rig)


def _reused(rig: Rig, name: str) -> int:
    """Of a prompt that begins with the prefix; its answer must be the one without any reuse."""
    prompt = [*PREFIX, 5, 6]
    rig.submit(name, prompt, 3)
    assert rig.tokens(name) == answer(prompt, 3)
    return rig.finished(name).cached_tokens


def test_what_is_back_is_reused(make_rig: MakeRig) -> None:
    rig, shelf = _started(make_rig)
    rig.engine.refill(SLOT, PREFIX, shelf.fill)
    assert _reused(rig, "a") == len(PREFIX)
    assert shelf.visits == 1


def test_what_is_there_is_left_alone(make_rig: MakeRig) -> None:
    rig, shelf = _started(make_rig)
    for _ in range(3):
        rig.engine.refill(SLOT, PREFIX, shelf.fill)
    rig.settle()
    assert shelf.visits == 1


def test_it_goes_again_when_there_is_no_room_and_comes_again(make_rig: MakeRig) -> None:
    rig, shelf = _started(make_rig)
    for visits in (1, 2):
        rig.engine.limit(rig.limits)
        rig.engine.refill(SLOT, PREFIX, shelf.fill)
        rig.settle()
        assert (shelf.visits, rig.runner.slots[SLOT]) == (visits, PREFIX)
        rig.engine.limit(replace(rig.limits, idle_tokens=0))
        rig.settle()
        assert rig.runner.slots[SLOT] == []


def test_those_who_wait_go_first(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, spare_slots=2, idle_tokens=40)
    shelf = Shelf(rig)
    rig.submit("a", [5, 6, 7], 6)
    rig.engine.refill(SLOT, PREFIX, shelf.fill)
    rig.start()
    assert rig.tokens("a") == answer([5, 6, 7], 6)
    assert shelf.visits == 0


def test_what_can_not_be_had_leaves_nothing_behind(make_rig: MakeRig) -> None:
    rig, shelf = _started(make_rig)
    shelf.is_empty = True
    rig.engine.refill(SLOT, PREFIX, shelf.fill)
    rig.settle()
    assert rig.runner.slots[SLOT] == []
    assert _reused(rig, "a") == 0
    rig.scheduler.check_integrity()


def test_what_was_in_the_slot_is_forgotten_even_if_nothing_comes(make_rig: MakeRig) -> None:
    rig, shelf = _started(make_rig)
    prompts = {f"p{place}": [place + 1] * 8 for place in range(3)}
    for name, prompt in prompts.items():
        rig.submit(name, prompt, 2)
        rig.finished(name)
    assert rig.runner.slots[SLOT]
    shelf.is_empty = True
    rig.engine.refill(SLOT, PREFIX, shelf.fill)
    for name, prompt in prompts.items():
        rig.submit(f"{name} again", prompt, 2)
        assert rig.tokens(f"{name} again") == answer(prompt, 2)


def test_others_make_room_for_it_at_once(make_rig: MakeRig) -> None:
    rig = make_rig(slots=1, spare_slots=2, idle_tokens=12)
    rig.start()
    rig.submit("a", [5] * 8, 3)
    rig.finished("a")
    released: Future[int] = Future()
    rig.runner.release = released.set_result  # type: ignore[method-assign]
    rig.engine.refill(SLOT, PREFIX, Shelf(rig).fill)
    assert released.result(20) != SLOT
    assert rig.scheduler.idle_tokens == len(PREFIX)
