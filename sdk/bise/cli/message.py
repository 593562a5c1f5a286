"""What the person at the prompt reads when something is wrong: one line, then a non-zero exit."""

from __future__ import annotations

from typing import NoReturn

import typer

# A module that may be missing, and the extra it comes with; onnxruntime has two, by device.
_EXTRAS = {"onnxruntime": "cpu", "torch": "reference", "transformers": "reference"}
_PARTS = {"bise_export": "export", "bise_daemon": "daemon"}
_OWN = ("bise", "bise_proto", *_PARTS)


def say_error(message: str) -> None:
    """One line on stderr."""
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(" ".join(message.split()), err=True)


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """One line on stderr, and the end of the command."""
    say_error(message)
    raise typer.Exit(exit_code)


def missing_extra(error: ModuleNotFoundError, part: str = "") -> str:
    """The sentence for a module that is not there, with the command that installs it; empty when it is our own bug.

    Args:
        part: the package whose command was asked for, for instance `bise_export`.
    """
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module) or _PARTS.get(part)
    if not extra or module in _OWN:
        return ""
    return f"this command needs {module}, which is not installed: pip install 'bise[{extra}]'"
