"""`bise chat`: talk to the model in a terminal, or pipe lines to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from bise.cli import arguments
from bise.cli.conversation import Conversation
from bise.cli.message import say_error
from bise.client import Client
from bise.errors import BiseError, ContextOverflow
from bise.options import Options

# Bytes 1 and 2 tell readline which characters take no room on the line.
_PROMPT = "\001\033[1;36m\002> \001\033[0m\002"
_HELP = "/timings how long the last answer took · /reset forget the conversation · /exit leave · Ctrl-C stop an answer"


def chat(
    address: arguments.Address = None,
    system: Annotated[str | None, typer.Option(help="What the model should know or be, before the first turn.")] = None,
    timings: arguments.Timings = False,
    show_prompt: Annotated[
        bool,
        typer.Option("--show-prompt", help="What the model is given, before each answer, and how many tokens it is."),
    ] = False,
    max_tokens: arguments.MaxTokens = None,
    on_overflow: arguments.OnOverflow = "error",
    priority: arguments.Priority = "interactive",
    timeout: arguments.Timeout = None,
    first_token_timeout: arguments.FirstTokenTimeout = None,
    per_token_timeout: arguments.PerTokenTimeout = None,
    json_schema: arguments.JsonSchema = None,
    json_object: arguments.JsonObject = False,
    regex: arguments.Regex = None,
    lark: arguments.Lark = None,
    choice: arguments.Choice = None,
    temperature: arguments.Temperature = None,
    top_p: arguments.TopP = None,
    top_k: arguments.TopK = None,
    min_p: arguments.MinP = None,
    seed: arguments.Seed = None,
) -> None:
    """Talk to the model. Ctrl-C stops an answer; /exit, Ctrl-D or Ctrl-C at the prompt leaves."""
    options = Options(
        max_tokens=max_tokens,
        on_overflow=on_overflow,
        priority=priority,
        timeout=timeout,
        first_token_timeout=first_token_timeout,
        per_token_timeout=per_token_timeout,
        json_schema=arguments.read_text(json_schema, "--json-schema"),
        json_object=json_object,
        regex=regex,
        lark=arguments.read_text(lark, "--lark"),
        choices=choice or None,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
    )
    console = Console(highlight=False, soft_wrap=True)
    with Client(address) as client:
        conversation = Conversation(
            client, console, system=system, options=options, show_timings=timings, show_prompt=show_prompt
        )
        talk = talk_in_terminal if sys.stdin.isatty() else talk_by_lines
        talk(conversation, console)


def talk_in_terminal(conversation: Conversation, console: Console) -> None:
    """Prompts, answers, and goes on after errors and cancelled answers until the person leaves."""
    with suppress(ModuleNotFoundError):
        import readline  # noqa: F401 - gives input() a history and line editing
    console.print(f"[bold]{conversation.model}[/] · /help for commands", style="dim")
    commands: dict[str, Callable[[], object]] = {
        "/timings": lambda: console.print(conversation.timings, style="dim"),
        "/reset": conversation.reset,
        "/help": lambda: console.print(_HELP, style="dim"),
    }
    while True:
        try:
            line = input(_PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if line in ("/exit", "/quit"):
            return
        if command := commands.get(line):
            command()
        elif line.startswith("/"):
            console.print(f"there is no command {line.split()[0]}: {_HELP}", style="dim", markup=False)
        elif line:
            _answer(conversation, line)


def talk_by_lines(conversation: Conversation, _console: Console) -> None:
    """Each line of standard input is a turn; the first error ends it."""
    for line in sys.stdin:
        if line.strip():
            conversation.say(line.strip())


def _answer(conversation: Conversation, line: str) -> None:
    try:
        conversation.say(line)
    except ContextOverflow as error:
        say_error(f"{error} Or forget the conversation with /reset.")
    except BiseError as error:
        say_error(str(error))
