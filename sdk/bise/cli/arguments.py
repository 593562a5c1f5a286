"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

_SAMPLING = "Sampling"

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
Timeout = Annotated[float, typer.Option(help="Seconds an answer may take; when they are over it ends as it is.")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens to make at most; by default what the context leaves.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")]

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
