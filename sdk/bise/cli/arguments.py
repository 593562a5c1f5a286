"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bise import types

_SAMPLING = "Sampling"
_FORMAT = "Format: what the answer has to be; one of them"
_BUDGET = "Budget: promised, or refused at once"

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        envvar="BISE_ADDRESS",
        metavar="URL",
        help="unix:///path/to.sock or tcp://host:port; by default the user's or the system's socket.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="For the whole answer, which ends as it is when they are over; by default 60, not promised.",
        rich_help_panel=_BUDGET,
    ),
]
FirstTokenTimeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Until the first token.", rich_help_panel=_BUDGET)
]
PerTokenTimeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Between one token and the next.", rich_help_panel=_BUDGET)
]
Priority = Annotated[
    types.Priority, typer.Option(help="Whose turn it is: critical first, background when nobody waits.")
]
OnOverflow = Annotated[
    types.OnOverflow, typer.Option(help="What becomes of a conversation that does not fit the context.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens to make at most; by default what the context leaves.")
]
Timings = Annotated[bool, typer.Option("--timings", help="What an answer took, beside what was predicted.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")]

JsonSchema = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The answer is JSON that this file's schema describes.", rich_help_panel=_FORMAT),
]
JsonObject = Annotated[bool, typer.Option("--json-object", help="It is a JSON object.", rich_help_panel=_FORMAT)]
Regex = Annotated[str | None, typer.Option(help="It matches this, as a whole.", rich_help_panel=_FORMAT)]
Lark = Annotated[
    Path | None, typer.Option(metavar="FILE", help="It is a text of this file's grammar.", rich_help_panel=_FORMAT)
]
Choice = Annotated[
    list[str] | None, typer.Option(help="It is this text, or another one given so.", rich_help_panel=_FORMAT)
]

Temperature = Annotated[
    float | None, typer.Option(help="0, the default, is greedy.", rich_help_panel=_SAMPLING, show_default=False)
]
TopP = Annotated[float | None, typer.Option(help="Keep the likeliest up to this sum.", rich_help_panel=_SAMPLING)]
TopK = Annotated[int | None, typer.Option(help="Keep this many tokens.", rich_help_panel=_SAMPLING)]
MinP = Annotated[
    float | None, typer.Option(help="Keep tokens this likely relative to the best.", rich_help_panel=_SAMPLING)
]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Divides the logits of tokens seen.", rich_help_panel=_SAMPLING)
]
PresencePenalty = Annotated[
    float | None, typer.Option(help="Taken once from the logits of tokens made.", rich_help_panel=_SAMPLING)
]
FrequencyPenalty = Annotated[
    float | None, typer.Option(help="Taken for each time a token was made.", rich_help_panel=_SAMPLING)
]
Seed = Annotated[int | None, typer.Option(min=0, help="The same seed, the same tokens.", rich_help_panel=_SAMPLING)]
LogitBias = Annotated[
    list[str] | None,
    typer.Option(metavar="ID=BIAS", help="Added to a token's logit; may be repeated.", rich_help_panel=_SAMPLING),
]


def read_text(path: Path | None, option: str) -> str | None:
    """What a file holds; None where none is named.

    Raises:
        BadParameter: it can't be read, or is no text.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{option}: expected a text file, got: {error}") from error
