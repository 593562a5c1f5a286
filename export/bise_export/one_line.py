"""How commands end on an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bise_export.errors import ExportError
from bise_proto.bundle import BundleError


@contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """What a person can act on is told in a line; anything else is our bug and keeps its traceback."""
    try:
        yield
    except (ExportError, BundleError, OSError) as error:
        typer.echo(f"bise {command}: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from None
