"""The `bise` command. Only `main` lives here, so that a missing extra is a sentence and not a traceback."""

from __future__ import annotations

import os
import sys

_NEEDED = ("typer", "rich")


def main() -> None:
    """Runs the command line of this process."""
    # gRPC's own notes on connections that end are not for the person at the prompt.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        from bise.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.exit(f"The bise command needs {' and '.join(_NEEDED)}: pip install 'bise[cli]'")
    app()
