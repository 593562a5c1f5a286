"""Whatever is tried, and wherever the power is cut: the device starts with the good one or the one on trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import pytest

from bise_daemon.trial.machine import (
    MAX_STARTS,
    File,
    Files,
    Record,
    Write,
    back,
    begin,
    digest,
    is_tried,
    served,
    start,
)

OLD, NEW, NEWER, BROKEN = b"old", b"new", b"newer", b"broken"


class Disk:
    """Files that are replaced one after the other, until the power is cut."""

    def __init__(self, **files: bytes) -> None:
        self.files: dict[File, bytes | None] = {file: files.get(file.name) for file in File}

    def carry_out(self, writes: Sequence[Write], of_them: int | None = None) -> None:
        for write in writes[:of_them]:
            self.files[write.file] = write.content

    @property
    def current(self) -> bytes | None:
        return self.files[File.CURRENT]

    @property
    def is_sound(self) -> bool:
        return self.current in (OLD, NEW, NEWER)

    def start(self) -> None:
        self.carry_out(start(self.files, is_sound=self.is_sound))

    def begin(self, candidate: bytes) -> None:
        self.carry_out(begin(self.files, candidate, is_sound=self.is_sound))

    def serve(self) -> None:
        self.carry_out(served(self.files))


def settled(content: bytes = OLD) -> Disk:
    disk = Disk(CURRENT=content)
    disk.serve()
    assert disk.files[File.GOOD] == content
    return disk


def on_trial() -> Disk:
    disk = settled()
    disk.begin(NEW)
    assert is_tried(disk.files)
    return disk


def damaged() -> Disk:
    disk = on_trial()
    disk.files[File.RECORD] = b"x\n{}\n"
    return disk


def by_hand() -> Disk:
    return Disk(CURRENT=OLD)


STATES: dict[str, Callable[[], Disk]] = {
    "settled": settled,
    "on trial": on_trial,
    "damaged record": damaged,
    "written by hand": by_hand,
}
STEPS: dict[str, Callable[[Files, bool], list[Write]]] = {
    "begin": lambda files, is_sound: begin(files, NEWER, is_sound=is_sound),
    "start": lambda files, is_sound: start(files, is_sound=is_sound),
    "served": lambda files, _is_sound: served(files),
    "back": lambda files, _is_sound: back(files, "it failed"),
}


def cuts(state: str, step: str) -> Iterator[Disk]:
    """What is on disk after each number of a step's writes."""
    count = len(STEPS[step](STATES[state]().files, True))
    for of_them in range(count + 1):
        disk = STATES[state]()
        disk.carry_out(STEPS[step](disk.files, disk.is_sound), of_them)
        yield disk


@pytest.mark.parametrize(("state", "step"), [*product(STATES, STEPS)])
def test_a_power_cut_leaves_the_good_one_or_the_one_on_trial(state: str, step: str) -> None:
    for disk in cuts(state, step):
        disk.start()
        assert disk.current in (OLD, NEW, NEWER)
        good = disk.files[File.GOOD]
        assert is_tried(disk.files) or good in (None, disk.current)


@pytest.mark.parametrize(("state", "step"), [*product(STATES, STEPS)])
def test_what_never_serves_is_given_up_after_some_starts(state: str, step: str) -> None:
    for disk in cuts(state, step):
        was_served = step == "served" and disk.files[File.GOOD] == NEW
        for _ in range(MAX_STARTS + 1):
            disk.start()
        assert disk.current == (NEW if was_served else OLD)
        assert not is_tried(disk.files)


@pytest.mark.parametrize(("state", "step"), [*product(STATES, STEPS)])
def test_what_serves_stays(state: str, step: str) -> None:
    for disk in cuts(state, step):
        disk.start()
        tried = disk.current
        disk.serve()
        assert not is_tried(disk.files)
        for _ in range(MAX_STARTS + 1):
            disk.start()
        assert disk.current == disk.files[File.GOOD] == tried


@pytest.mark.parametrize(("state", "step", "again"), [*product(STATES, STEPS, STEPS)])
def test_a_second_cut_is_no_harm_either(state: str, step: str, again: str) -> None:
    for disk in cuts(state, step):
        before = dict(disk.files)
        count = len(STEPS[again](before, disk.is_sound))
        for of_them in range(count + 1):
            disk.files = dict(before)
            disk.carry_out(STEPS[again](disk.files, disk.is_sound), of_them)
            disk.start()
            assert disk.current in (OLD, NEW, NEWER)
            for _ in range(MAX_STARTS + 1):
                disk.start()
            assert disk.current in (OLD, NEW, NEWER)
            assert disk.files[File.GOOD] in (None, disk.current)


def test_starts_are_counted_and_then_it_goes_back() -> None:
    disk = on_trial()
    for count in range(1, MAX_STARTS + 1):
        disk.start()
        assert (disk.current, Record.parse(disk.files[File.RECORD]).starts) == (NEW, count)
    disk.start()
    assert (disk.current, disk.files[File.REFUSED]) == (OLD, NEW)
    assert Record.parse(disk.files[File.RECORD]).why == "it did not serve in 3 starts"
    disk.serve()
    assert Record.parse(disk.files[File.RECORD]).why == "it did not serve in 3 starts", "until another one serves"


def test_one_that_serves_is_good_and_the_one_before_is_kept() -> None:
    disk = on_trial()
    disk.start()
    disk.serve()
    assert (disk.files[File.GOOD], disk.files[File.PREVIOUS]) == (NEW, OLD)
    assert start(disk.files, is_sound=True) == []
    assert served(disk.files) == []


def test_one_on_trial_is_never_taken_for_good() -> None:
    disk = on_trial()
    disk.begin(NEWER)
    assert disk.files[File.GOOD] == OLD
    for _ in range(MAX_STARTS + 1):
        disk.start()
    assert disk.current == OLD


def test_what_somebody_writes_by_hand_is_left_alone_if_it_can_be_read() -> None:
    for disk in (settled(), on_trial()):
        disk.files[File.CURRENT] = NEWER
        disk.start()
        assert disk.current == NEWER
        assert not is_tried(disk.files)
        disk.serve()
        assert disk.files[File.GOOD] == NEWER


@pytest.mark.parametrize("content", [BROKEN, None])
def test_what_can_not_be_read_gives_way_and_is_kept(content: bytes | None) -> None:
    disk = settled()
    disk.files[File.CURRENT] = content
    disk.start()
    assert (disk.current, disk.files[File.REFUSED]) == (OLD, content)
    assert Record.parse(disk.files[File.RECORD]).why == "the daemon does not accept it"


def test_the_first_one_has_nothing_to_go_back_to() -> None:
    disk = Disk()
    disk.begin(NEW)
    for _ in range(MAX_STARTS + 2):
        disk.start()
    assert disk.current == NEW
    assert back(disk.files, "it failed") == []
    assert digest(None) == ""
