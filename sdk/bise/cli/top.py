"""`bise top`: what a daemon is doing, as it does it."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from bise.aio import AsyncClient
from bise.cli import arguments
from bise.cli.course import Course
from bise.cli.screen import screen
from bise.errors import BiseError

_QUIT = b"qQ\x04"  # Ctrl-D too
_ESCAPE = b"\x1b"  # alone; an arrow begins with it


def top(
    address: arguments.Address = None,
    interval: Annotated[float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="From one look to the next.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Show one screen and end.")] = False,
) -> None:
    """Watch the daemon: load, memory, budgets, refusals. q leaves."""
    console = Console()
    with suppress(KeyboardInterrupt):
        if once or not console.is_terminal:
            asyncio.run(_look(console, address))
        else:
            asyncio.run(_watch(console, address, interval))


async def _look(console: Console, address: str | None) -> None:
    course = Course()
    async with AsyncClient(address) as client:
        course.look(await client.status())
        console.print(screen(course, client.address, keys="one look"))


async def _watch(console: Console, address: str | None, interval_s: float) -> None:
    """Shows the daemon until a key says enough; one that is gone may come back."""
    course, left = Course(), asyncio.Event()
    async with AsyncClient(address) as client:
        with _keys(left.set), Live(console=console, screen=True, auto_refresh=False) as live:

            def show(trouble: str = "") -> None:
                live.update(screen(course, client.address, trouble), refresh=True)

            async def follow() -> None:
                while True:
                    show()
                    try:
                        async for status in client.watch_status(interval=interval_s):
                            course.look(status)
                            show()
                    except BiseError as error:
                        show(" ".join(str(error).split()))
                    await asyncio.sleep(interval_s)

            following = asyncio.create_task(follow())
            following.add_done_callback(lambda _: left.set())
            await left.wait()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


@contextmanager
def _keys(leave: Callable[[], None]) -> Iterator[None]:
    """Calls `leave` at the first key that quits; without a keyboard, never."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(descriptor, 64)
        if typed in (_ESCAPE, b"") or any(key in typed for key in _QUIT):
            leave()

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
