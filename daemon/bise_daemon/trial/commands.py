"""`bise config`: a device's configuration, put in place so that a bad one does not stay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from bise_daemon.trial.store import Store
    from bise_daemon.trial.trial import Outcome

config = typer.Typer(
    name="config",
    no_args_is_help=True,
    add_completion=False,
    help="Put a configuration in place on this device, and go back if the daemon does not serve with it.",
)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)(s|m|)", text)
    if not found or not 0 < (seconds := float(found[1]) * (60 if found[2] == "m" else 1)) <= 86_400:
        raise typer.BadParameter(f"expected a time such as 60s or 5m, of a day at most, got {text!r}")
    return seconds


Target = Annotated[Path, typer.Option("--config", help="The configuration that the daemon reads.")]
Window = Annotated[float, typer.Option(parser=_seconds, metavar="TIME", help="In which the daemon has to serve.")]
Restart = Annotated[str, typer.Option(help="The command that starts the daemon anew.")]
Reload = Annotated[str, typer.Option(help="The command that has it take over what can change while it serves.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")]

_TARGET = Path("/etc/bise/bise.yaml")
_RESTART = "systemctl restart bised"
_RELOAD = "systemctl reload bised"
# Beside 1 for what was refused before anything happened, and 2 for what was typed wrongly.
_EXIT_CODES = {"unchanged": 0, "confirmed": 0, "back": 3, "down": 4}


@config.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new configuration.")],
    window: Window = "120s",  # type: ignore[assignment]  # parsed
    target: Target = _TARGET,
    restart: Restart = _RESTART,
    reload: Reload = _RELOAD,
    as_json: AsJson = False,
) -> None:
    """Try a configuration: it stays if the daemon serves with it in time, else the last good one comes back.

    Exits 0 when it stays, 1 when it was refused and nothing changed, 3 when the good one is back and serves, 4 when
    nothing serves. A power cut in between is no harm: `bise config start` before each start of the daemon sees to it.
    """
    with _errors_told():
        _end(_tried(target, file, window, restart, reload), as_json)


@config.command()
def rollback(
    window: Window = "120s",  # type: ignore[assignment]  # parsed
    target: Target = _TARGET,
    restart: Restart = _RESTART,
    reload: Reload = _RELOAD,
    as_json: AsJson = False,
) -> None:
    """Try the configuration that was good before this one; exit codes are those of apply."""
    from bise_daemon.trial.machine import File, is_tried

    with _errors_told():
        store = _store(target)
        # What is on trial by nobody any more is not the good one yet.
        earlier = store.place(File.GOOD if is_tried(store.files()) else File.PREVIOUS)
        if not earlier.exists():
            _fail(f"{target}: expected one that was good before, got none. Apply the one you want.")
        _end(_tried(target, earlier, window, restart, reload), as_json)


@config.command()
def show(target: Target = _TARGET, as_json: AsJson = False) -> None:
    """Say which configuration is current, whether it is on trial, and what became of the one before."""
    from bise_daemon.trial.trial import shown

    with _errors_told():
        said = shown(_store(target))
    if as_json:
        typer.echo(json.dumps(said, indent=2))
        return
    state = f"on trial, {said['starts']} starts" if said["on_trial"] else "settled"
    typer.echo(f"{target}: {state}")
    for name in ("current", "good", "previous", "refused"):
        typer.echo(f"  {name:<9} {str(said[name])[:12] or 'none'}")
    if said["why"]:
        typer.echo(f"  it went back: {said['why']}")


@config.command()
def start(target: Target = _TARGET) -> None:
    """Before each start of the daemon: count it, and go back if the configuration on trial had its chances.

    For ExecStartPre of the daemon's unit. It never keeps the daemon from being started.
    """
    from bise_daemon.trial import machine

    with _warnings_told():
        store = _store(target)
        store.clean_up()
        _carried_out(store, machine.start(store.files(), is_sound=store.is_sound))


@config.command()
def served(target: Target = _TARGET) -> None:
    """After the daemon has begun to serve: what is current is the good one now. For ExecStartPost of its unit."""
    from bise_daemon.trial import machine

    with _warnings_told():
        store = _store(target)
        _carried_out(store, machine.served(store.files()))


def _carried_out(store: Store, writes: list[Any]) -> None:
    from bise_daemon.trial.machine import File, Record

    store.carry_out(writes)
    if any(write.file is File.CURRENT for write in writes):
        typer.echo(f"{store.path}: back to the good one: {Record.parse(writes[-1].content).why}", err=True)


def _tried(target: Path, file: Path, window_s: float, restart: str, reload: str) -> Outcome:
    from bise_daemon.config.load import load_config
    from bise_daemon.trial.controls import Service
    from bise_daemon.trial.trial import apply

    store = _store(target)
    config = load_config(file, folder=target.parent)
    with store.trying():
        return apply(store, file.read_bytes(), config, window_s, Service(restart, reload))


def _store(target: Path) -> Store:
    from bise_daemon.trial.store import Store

    return Store(target)


def _end(outcome: Outcome, as_json: bool) -> NoReturn:
    code = _EXIT_CODES[outcome.ending]
    if as_json:
        said = {"outcome": str(outcome.ending), "action": outcome.action, "why": outcome.why}
        typer.echo(json.dumps(said, indent=2))
    else:
        typer.echo(f"{outcome.ending}, {outcome.action}" + (f": {outcome.why}" if outcome.why else ""), err=code != 0)
    raise typer.Exit(code)


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        typer.echo(line, err=True)
    raise typer.Exit(1)


@contextmanager
def _errors_told() -> Iterator[None]:
    from bise_daemon.config.problem import ConfigError
    from bise_daemon.state import UnfitError
    from bise_daemon.trial.store import BusyError

    try:
        yield
    except (ConfigError, UnfitError, BusyError, OSError) as error:
        _fail(str(error))


@contextmanager
def _warnings_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        typer.echo(f"warning: {error}. The daemon starts with what there is.", err=True)
