"""Commands that are imported when they are looked at, so that starting one does not pay for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import typer
from typer.main import get_command

from bise.cli.message import fail, missing_extra

if TYPE_CHECKING:
    from typer._click import Command

# A command that can't be imported takes any arguments, to say why whatever was asked of it.
_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


class LazyCommands(MutableMapping[str, "Command"]):
    """Command by name. Listing the names imports nothing; looking one up imports that one."""

    def __init__(self, points: Iterable[EntryPoint]) -> None:
        self._loaders: dict[str, Callable[[], Command]] = {point.name: _loader(point) for point in points}

    def __getitem__(self, name: str) -> Command:
        return self._loaders[name]()

    def __setitem__(self, name: str, command: Command) -> None:
        self._loaders[name] = lambda: command

    def __delitem__(self, name: str) -> None:
        del self._loaders[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


def _loader(point: EntryPoint) -> Callable[[], Command]:
    def load() -> Command:
        try:
            return _command(point.name, point.load())
        except ModuleNotFoundError as error:
            part = point.module.partition(".")[0]
            sentence = missing_extra(error, part) or f"can't load {point.value}: {error}. Install bise again."
            return _unavailable(point.name, sentence)

    return load


def _command(name: str, function: Callable[..., Any], **settings: Any) -> Command:
    if isinstance(function, typer.Typer):  # commands of its own
        return get_command(function)
    single = typer.Typer(add_completion=False)
    single.command(name, **settings)(function)
    return get_command(single)


def _unavailable(name: str, sentence: str) -> Command:
    def unavailable() -> None:
        fail(sentence)

    return _command(
        name, unavailable, help=f"Unavailable: {sentence}", add_help_option=False, context_settings=_ANY_ARGUMENTS
    )
