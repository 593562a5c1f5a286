"""The table of commands: this part's own, and those other parts register as entry points `bise.commands`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

from bise.cli.lazy import LazyCommands
from bise.cli.message import fail, missing_extra
from bise.errors import BiseError

if TYPE_CHECKING:
    from typer._click import Context

GROUP = "bise.commands"
_OWN = {
    "demo": "bise.cli.demo:demo",
    "chat": "bise.cli.chat:chat",
    "generate": "bise.cli.generate:generate",
    "health": "bise.cli.health:health",
    "top": "bise.cli.top:top",
    "version": "bise.cli.version:version",
}


def commands() -> list[EntryPoint]:
    """Every command by name; a command of this part can't be replaced by another's."""
    own = [EntryPoint(name, value, GROUP) for name, value in _OWN.items()]
    others = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return own + [point for point in others if point.name not in _OWN]


class BiseGroup(TyperGroup):
    """Imports a command when it is asked for, and tells expected errors in one line."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.commands = LazyCommands(commands())

    def invoke(self, ctx: Context) -> object:
        """Runs the command; an error of a call, of a file or of a missing extra is one line and exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader left: typer ends quietly
        except ModuleNotFoundError as error:
            part = next((point.module for point in commands() if point.name == ctx.invoked_subcommand), "")
            if not (sentence := missing_extra(error, part.partition(".")[0])):
                raise
            fail(sentence)
        except (BiseError, OSError) as error:
            fail(str(error))


app = typer.Typer(
    name="bise",
    cls=BiseGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def bise() -> None:
    """Language models on edge boxes: export a checkpoint, serve the bundle, call it."""
