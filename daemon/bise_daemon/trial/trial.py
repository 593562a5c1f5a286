"""A trial from its beginning to its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.live import LIVE
from bise_daemon.config.load import load_config
from bise_daemon.config.problem import ConfigError
from bise_daemon.trial.machine import File, Record, back, begin, digest, is_tried, served
from bise_daemon.trial.store import Store


class Ending(StrEnum):
    """How a trial ended."""

    UNCHANGED = "unchanged"
    CONFIRMED = "confirmed"
    BACK = "back"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        ending: `unchanged`, `confirmed`, `back` to the good one, which serves, or `down`: not even that does.
        action: `none`, `reload` or `restart`.
        why: it went back, or is down; empty if it did not.
    """

    ending: Ending
    action: str
    why: str = ""


class Controls(Protocol):
    """What is done to the daemon."""

    def serves(self, config: DaemonConfig) -> bool:
        """Whether it serves now."""

    def take_over(self, action: str, config: DaemonConfig, window_s: float) -> str:
        """Has it take its configuration over, by `reload` or `restart`; why it does not serve then, or nothing."""


def apply(store: Store, candidate: bytes, config: DaemonConfig, window_s: float, daemon: Controls) -> Outcome:
    """Tries a configuration, and goes back to the good one if it does not serve in time.

    Args:
        candidate: the file's content.
        config: what the daemon makes of it.
        window_s: from the first write until the daemon has to serve, and once more for the good one.

    Raises:
        OSError: it could not be put in place; the current one is the good one then, or on trial until the next start.
    """
    files, before = store.files(), _config(store)
    if files[File.CURRENT] == candidate and not is_tried(files) and daemon.serves(config):
        store.carry_out(served(files))
        return Outcome(Ending.UNCHANGED, "none")
    store.carry_out(begin(files, candidate, is_sound=before is not None))
    is_live = before is not None and _is_live(before, config) and daemon.serves(before)
    action = "reload" if is_live else "restart"
    why = daemon.take_over(action, config, window_s)
    files = store.files()
    if not why and files[File.CURRENT] == candidate:
        store.carry_out(served(files))
        return Outcome(Ending.CONFIRMED, action)
    if files[File.CURRENT] != candidate:
        # Starts were counted meanwhile, and there were enough.
        return Outcome(Ending.DOWN if why else Ending.BACK, action, why or Record.parse(files[File.RECORD]).why)
    if files[File.GOOD] is None:
        return Outcome(Ending.DOWN, action, f"{why}; there is none before it to go back to")
    store.carry_out(back(files, why))
    good = _config(store)
    if good is None or (down := daemon.take_over("restart", good, window_s)):
        return Outcome(Ending.DOWN, action, f"{why}; and the one before it: {down if good else 'it is not accepted'}")
    return Outcome(Ending.BACK, action, why)


def _is_live(before: DaemonConfig, after: DaemonConfig) -> bool:
    one, other = dict(before), dict(after)
    return {key for key in one if one[key] != other[key]} <= set(LIVE)


def _config(store: Store) -> DaemonConfig | None:
    try:
        return load_config(store.path)
    except ConfigError:
        return None


def shown(store: Store) -> dict[str, object]:
    """How things stand, for people and programs."""
    files = store.files()
    record = Record.parse(files[File.RECORD])
    return {
        "config": str(store.path),
        "current": digest(files[File.CURRENT]),
        "good": digest(files[File.GOOD]),
        "previous": digest(files[File.PREVIOUS]),
        "refused": digest(files[File.REFUSED]),
        "on_trial": is_tried(files),
        "starts": record.starts,
        "why": record.why,
    }
