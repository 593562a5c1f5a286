"""`bise deploy`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

_BOOTED = Path("/run/systemd/system")


class Action(StrEnum):
    """What `bise deploy` can do."""

    INSTALL = "install"
    UNINSTALL = "uninstall"


def deploy(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    root: Annotated[Path, typer.Option(help="An image's root folder, instead of this machine.")] = Path("/"),
    prefix: Annotated[str, typer.Option(help="Where units go: /usr for packages.")] = "/usr/local",
    command: Annotated[str | None, typer.Option(help="The bise that units start; this one if not given.")] = None,
) -> None:
    """Install bise as a service of systemd's, or remove it. Doing so again changes nothing."""
    from bise_daemon.deploy.installation import Installation
    from bise_daemon.deploy.placement import placements

    started = command or str(Path(sys.executable).with_name("bise"))
    try:
        placed = placements(PurePosixPath(prefix), PurePosixPath(started))
        if not root.is_dir():
            raise NotADirectoryError(f"--root: expected a folder that is there, got {root}.")
        installation = Installation(placed, root)
        is_live = root.resolve() == Path("/") and _BOOTED.is_dir()
        if is_live and action is Action.UNINSTALL:
            _run("systemctl", "disable", "--now", "bised.socket", "bised.service", allowed=(0, 1, 5))
        done = installation.install() if action is Action.INSTALL else installation.uninstall()
        for line in done:
            typer.echo(line)
        if is_live:
            if action is Action.INSTALL:
                _run("systemd-sysusers")
                _run("systemd-tmpfiles", "--create", "--prefix=/run/bise", "--prefix=/var/lib/bise", allowed=(0, 73))
            _run("systemctl", "daemon-reload")
    except (OSError, ValueError) as error:
        typer.echo(f"bise deploy: {error}", err=True)
        raise typer.Exit(1) from None
    if action is Action.INSTALL:
        typer.echo("Next: set `bundle` in /etc/bise/bise.yaml, then: systemctl enable --now bised.socket bised.service")
    else:
        typer.echo("Left as they are: /var/lib/bise, /var/cache/bise, and the user bise.")


def _run(name: str, *arguments: str, allowed: Sequence[int] = (0,)) -> None:
    """Runs one of systemd's commands, and says so.

    Raises:
        OSError: it is not there, or failed.
    """
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name}: expected this command of systemd's, found none.")
    typer.echo(" ".join((name, *arguments)))
    ended = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=90)  # noqa: S603
    if ended.returncode not in allowed:
        raise OSError(f"{name} ended with {ended.returncode}: {ended.stderr.strip()}")
