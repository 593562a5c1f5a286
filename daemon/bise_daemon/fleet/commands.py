"""`bise fleet`: what a fleet's file says, and what a rollout of it would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

fleet = typer.Typer(
    name="fleet",
    no_args_is_help=True,
    add_completion=False,
    help="Describe the configurations of a fleet of devices in one file, and plan how they get another.",
)

File = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet's YAML file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")]


@fleet.command()
def validate(file: File, as_json: AsJson = False) -> None:
    """Check the file as a whole: every problem at once, and who is in which group and ring."""
    from bise_daemon.fleet import report, table
    from bise_daemon.fleet.fleet import load_fleet
    from bise_daemon.fleet.rollout import plan

    with _problems_told(as_json):
        found = load_fleet(file)
        _tell(report.fleet(found, plan(found)) if as_json else table.fleet(found, plan(found)))


@fleet.command()
def render(
    file: File,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device's name.")],
    origin: Annotated[bool, typer.Option("--origin", help="Say which layer set each value, and its line.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print one device's configuration, as its daemon reads it."""
    from bise_daemon.config.validation import advice
    from bise_daemon.fleet import report
    from bise_daemon.fleet.fleet import load_fleet
    from bise_daemon.fleet.rendering import render as run

    with _problems_told(as_json):
        found = load_fleet(file)
        if device not in found.devices:
            raise typer.BadParameter(f"{device}: expected a device of {file}. {advice(device, found.devices)}")
        one = found.devices[device]
        if as_json:
            _tell(report.device(found, one))
        else:
            typer.echo(run(found, one, origin=origin), nl=False)


@fleet.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The fleet's file as it was.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The fleet's file as it is to be.")],
    as_json: AsJson = False,
) -> None:
    """Show what changes on which device, and whether its daemon has to start again for it."""
    from bise_daemon.fleet import report, table
    from bise_daemon.fleet.fleet import load_fleet
    from bise_daemon.fleet.rollout import plan

    with _problems_told(as_json):
        planned = plan(load_fleet(new), load_fleet(old))
        _tell(report.diff(planned) if as_json else table.diff(planned))


@fleet.command()
def plan(
    file: File,
    since: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="The fleet's file as devices have it; without it, they have none."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a rollout would do: rings in order, their devices, reloads and restarts, pauses and gates."""
    from bise_daemon.fleet import report, table
    from bise_daemon.fleet.fleet import load_fleet
    from bise_daemon.fleet.rollout import plan as run

    with _problems_told(as_json):
        planned = run(load_fleet(file), None if since is None else load_fleet(since))
        _tell(report.plan(planned) if as_json else table.plan(planned))


@fleet.command()
def schema() -> None:
    """Print the JSON Schema of a fleet's file, with which editors complete and check it."""
    from bise_daemon.fleet.schema import schema as run

    typer.echo(run(), nl=False)


def _tell(what: dict[str, Any] | RenderableType) -> None:
    from rich.console import Console

    if isinstance(what, dict):
        typer.echo(json.dumps(what, indent=2))
    else:
        Console().print(what)


@contextmanager
def _problems_told(as_json: bool) -> Iterator[None]:
    """Tells a file's problems, a line for each, and ends the command with 1."""
    from bise_daemon.config.problem import ConfigError

    try:
        yield
    except ConfigError as error:
        if as_json:
            problems = [
                {"where": problem.where, "line": problem.line or None, "message": problem.message}
                for problem in error.problems
            ]
            typer.echo(json.dumps({"problems": problems}, indent=2))
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
