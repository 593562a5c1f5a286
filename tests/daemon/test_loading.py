"""Progress of a load, by a clock that a test turns."""

from __future__ import annotations

import pytest

from bise_daemon.loading import Loading, LoadingStoppedError


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def __call__(self, part: str, patience_s: float) -> None:
        self.told.append((part, patience_s))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def loading(clock: Clock, listener: Listener) -> Loading:
    return Loading(listener, clock)


def test_progress_is_told_once_a_second(loading: Loading, clock: Clock, listener: Listener) -> None:
    loading.begin("hashing", 10)
    for _ in range(24):
        clock.now_s += 0.125
        loading.advance()
    assert listener.told[0] == ("hashing", 10)
    assert len(listener.told) == 1 + 3
    loading.begin("loading", 20)
    assert listener.told[-1] == ("loading", 20)


def test_time_runs_out_without_progress_and_begins_anew_with_it(loading: Loading, clock: Clock) -> None:
    loading.begin("hashing", 10)
    clock.now_s += 9
    assert loading.left_s == pytest.approx(1)
    loading.advance("hashing: 2 of 3")
    assert loading.left_s == pytest.approx(10)
    clock.now_s += 11
    assert loading.left_s < 0
    assert str(loading.stall).startswith("hashing: 2 of 3: expected progress within 10 s, got none")


def test_a_part_with_less_patience_is_told_at_once(loading: Loading, listener: Listener) -> None:
    loading.begin("loading", 300)
    loading.begin("measuring", 5)
    assert listener.told == [("loading", 300), ("measuring", 5)]


def test_a_stop_ends_what_is_waited_for_and_all_that_comes(loading: Loading) -> None:
    ended = []
    with loading.ended_by(lambda: ended.append("child")):
        loading.stop()
    assert ended == ["child"]
    with pytest.raises(LoadingStoppedError):
        loading.advance()
    with pytest.raises(LoadingStoppedError):
        loading.begin("loading", 1)
    with pytest.raises(LoadingStoppedError), loading.ended_by(lambda: ended.append("late")):
        pass
    assert ended == ["child"]


def test_what_is_over_is_not_ended(loading: Loading) -> None:
    ended = []
    with loading.ended_by(lambda: ended.append("child")):
        pass
    loading.stop()
    assert ended == []
