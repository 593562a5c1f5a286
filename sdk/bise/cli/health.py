"""`bise health`: is the daemon there, and can it answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bise.cli import arguments
from bise.cli.message import say_error
from bise.cli.vitals import in_full, in_short
from bise.errors import BiseError

if TYPE_CHECKING:
    from bise.client import Client
    from bise.types import Health, Status

# A daemon that needs longer for a health check is not healthy.
_TIMEOUT_S = 5.0


class ExitCode(IntEnum):
    """What `bise health` tells a script."""

    SERVING = 0
    NOT_SERVING = 1
    UNREACHABLE = 2


def health(
    address: arguments.Address = None,
    as_json: arguments.AsJson = False,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for it to serve.")] = 0,
) -> None:
    """Ask whether the daemon can answer now. Exits 0 when it serves, 1 when it does not, 2 when nobody is there."""
    from bise.client import Client
    from bise.types import Health

    with Client(address, timeout=_TIMEOUT_S) as client:
        try:
            state = client.wait_until_serving(timeout=wait) if wait else client.health()
        except BiseError as error:
            _tell_unreachable(client.address, str(error), as_json)
            raise typer.Exit(ExitCode.UNREACHABLE) from None
        status = _status(client)
        tell = _tell_json if as_json else _tell_person
        tell(client.address, state, status)
    raise typer.Exit(ExitCode.SERVING if state is Health.SERVING else ExitCode.NOT_SERVING)


def _status(client: Client) -> Status | None:
    """The status, when the daemon is well enough to tell it."""
    try:
        return client.status()
    except BiseError:
        return None


def _tell_person(address: str, state: Health, status: Status | None) -> None:
    parts = [state.replace("_", " "), address, *(in_short(status) if status else [])]
    typer.echo(" · ".join(parts))
    for line in in_full(status) if status else []:
        typer.echo(line)


def _tell_json(address: str, state: Health, status: Status | None) -> None:
    typer.echo(json.dumps({"health": state, "address": address, "status": asdict(status) if status else None}))


def _tell_unreachable(address: str, message: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"health": "unreachable", "address": address, "error": message}))
    else:
        say_error(message)
