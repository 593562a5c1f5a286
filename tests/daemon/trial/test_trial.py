"""Trials with real files: killed at every call to the system, and wherever a daemon does not do what it should."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.load import load_config
from bise_daemon.trial.machine import MAX_STARTS, File, is_tried, start
from bise_daemon.trial.store import BusyError, Store
from bise_daemon.trial.trial import Ending, Outcome, apply

OLD = b"bundle: /old\n"
NEW = b"bundle: /new\nslots: 4\n"
LIVE = b"bundle: /old\ndrain_timeout_s: 1\n"


@dataclass
class FakeDaemon:
    """A daemon under a manager that counts its starts, and serves with configurations that hold one of some words."""

    store: Store
    words: tuple[bytes, ...] = (b"/old", b"/new")
    starts_itself: int = 1
    did: list[str] = field(default_factory=list)

    def serves(self, config: DaemonConfig) -> bool:
        return any(word in (self.store.files()[File.CURRENT] or b"") for word in self.words)

    def take_over(self, action: str, config: DaemonConfig, window_s: float) -> str:
        self.did.append(action)
        if action == "restart":
            for _ in range(self.starts_itself):
                self.store.carry_out(start(self.store.files(), is_sound=self.store.is_sound))
        return "" if self.serves(config) else "it did not serve"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "bise.yaml")
    store.path.write_bytes(OLD)
    return store


def tried(store: Store, candidate: bytes, daemon: FakeDaemon) -> Outcome:
    other = store.path.with_name("candidate.yaml")
    other.write_bytes(candidate)
    return apply(store, candidate, load_config(other), 1.0, daemon)


def test_one_that_serves_stays(store: Store) -> None:
    daemon = FakeDaemon(store)
    assert tried(store, NEW, daemon) == Outcome(Ending.CONFIRMED, "restart")
    assert tried(store, NEW, daemon) == Outcome(Ending.UNCHANGED, "none")
    files = store.files()
    assert (files[File.CURRENT], files[File.GOOD], files[File.PREVIOUS]) == (NEW, NEW, OLD)
    assert not is_tried(files)
    assert daemon.did == ["restart"]


def test_what_can_change_live_does_if_the_daemon_serves(store: Store) -> None:
    daemon = FakeDaemon(store)
    assert tried(store, LIVE, daemon) == Outcome(Ending.CONFIRMED, "reload")
    store.path.write_bytes(b"bundle: /dead\n")
    assert tried(store, b"bundle: /dead\ndrain_timeout_s: 2\n", daemon).action == "restart"


def test_one_that_does_not_serve_gives_way(store: Store) -> None:
    daemon = FakeDaemon(store, words=(b"/old",))
    assert tried(store, NEW, daemon) == Outcome(Ending.BACK, "restart", "it did not serve")
    files = store.files()
    assert (files[File.CURRENT], files[File.REFUSED]) == (OLD, NEW)
    assert daemon.did == ["restart", "restart"]


def test_one_that_was_given_up_while_its_window_was_open_is_not_taken_for_served(store: Store) -> None:
    daemon = FakeDaemon(store, words=(b"/old",), starts_itself=MAX_STARTS + 1)
    assert tried(store, NEW, daemon) == Outcome(Ending.BACK, "restart", "it did not serve in 3 starts")
    assert daemon.did == ["restart"]


def test_when_nothing_serves_it_says_so_of_both(store: Store) -> None:
    outcome = tried(store, NEW, FakeDaemon(store, words=()))
    assert outcome == Outcome(Ending.DOWN, "restart", "it did not serve; and the one before it: it did not serve")
    assert store.files()[File.CURRENT] == OLD


def test_the_first_one_has_nothing_to_go_back_to(store: Store) -> None:
    store.path.unlink()
    outcome = tried(store, NEW, FakeDaemon(store, words=()))
    assert outcome.ending is Ending.DOWN
    assert outcome.why == "it did not serve; there is none before it to go back to"
    assert store.files()[File.CURRENT] == NEW


def test_one_at_a_time(store: Store) -> None:
    with store.trying(), pytest.raises(BusyError, match="another process tries"), store.trying():
        pass


def test_the_daemon_may_be_another_user(store: Store) -> None:
    tried(store, NEW, FakeDaemon(store))
    assert store.path.stat().st_mode & 0o777 == 0o644


SYSTEM = ("fsync", "replace", "open", "close", "fchmod")


def killed_after(calls: int, run: Callable[[], object]) -> bool:
    """Runs it in a process that is killed at its n-th call to the system, before it; whether it was."""
    child = os.fork()
    if child == 0:
        left = calls

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def instead(*arguments: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return call(*arguments, **more)

            return instead

        for name in SYSTEM:
            setattr(os, name, counted(getattr(os, name)))
        try:
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("words", [(b"/old", b"/new"), (b"/old",)], ids=["it serves", "it does not"])
def test_killed_anywhere_it_starts_with_the_good_one_or_the_new_one(tmp_path: Path, words: tuple[bytes, ...]) -> None:
    for calls in range(200):
        folder = tmp_path / str(calls)
        folder.mkdir()
        store = Store(folder / "bise.yaml")
        store.path.write_bytes(OLD)
        was_killed = killed_after(calls, lambda store=store: tried(store, NEW, FakeDaemon(store, words=words)))

        store.clean_up()
        for _ in range(MAX_STARTS + 1):
            store.carry_out(start(store.files(), is_sound=store.is_sound))
            assert store.files()[File.CURRENT] in (OLD, NEW)
        current = store.files()[File.CURRENT]
        assert store.files()[File.GOOD] in (None, current)
        assert not list(folder.glob("*.part"))
        if not was_killed:
            assert current == (NEW if b"/new" in words else OLD)
            break
    assert calls > 20
    assert not was_killed
