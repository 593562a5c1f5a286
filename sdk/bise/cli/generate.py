"""`bise generate`: continue a prompt."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from bise.cli import arguments
from bise.cli.timings import timings_line


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
    address: arguments.Address = None,
    max_tokens: arguments.MaxTokens = None,
    priority: arguments.Priority = "interactive",
    timeout: arguments.Timeout = None,
    first_token_timeout: arguments.FirstTokenTimeout = None,
    per_token_timeout: arguments.PerTokenTimeout = None,
    on_expiry_fail: Annotated[bool, typer.Option("--fail-on-expiry", help="When time is up, fail instead.")] = False,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after the model's own end.")] = False,
    logprobs: Annotated[bool, typer.Option("--logprobs", help="Log probabilities of the tokens, with --json.")] = False,
    top_logprobs: Annotated[int | None, typer.Option(min=0, help="And of this many alternatives.")] = None,
    json_schema: arguments.JsonSchema = None,
    json_object: arguments.JsonObject = False,
    regex: arguments.Regex = None,
    lark: arguments.Lark = None,
    choice: arguments.Choice = None,
    temperature: arguments.Temperature = None,
    top_p: arguments.TopP = None,
    top_k: arguments.TopK = None,
    min_p: arguments.MinP = None,
    repetition_penalty: arguments.RepetitionPenalty = None,
    presence_penalty: arguments.PresencePenalty = None,
    frequency_penalty: arguments.FrequencyPenalty = None,
    seed: arguments.Seed = None,
    logit_bias: arguments.LogitBias = None,
    timings: arguments.Timings = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Continue a raw prompt, streaming the text to standard output."""
    from bise.client import Client

    with (
        Client(address) as client,
        client.stream_generate(
            sys.stdin.read() if prompt == "-" else prompt,
            max_tokens=max_tokens,
            priority=priority,
            timeout=timeout,
            first_token_timeout=first_token_timeout,
            per_token_timeout=per_token_timeout,
            on_expiry="fail" if on_expiry_fail else "partial",
            stop=stop,
            ignore_eos=ignore_eos,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            json_schema=arguments.read_text(json_schema, "--json-schema"),
            json_object=json_object,
            regex=regex,
            lark=arguments.read_text(lark, "--lark"),
            choices=choice or None,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            seed=seed,
            logit_bias=parse_logit_bias(logit_bias or ()),
        ) as stream,
    ):
        if as_json:
            # A token's bytes need not be text, so they are numbers here.
            typer.echo(json.dumps(asdict(stream.finish()), ensure_ascii=False, default=list))
            return
        for delta in stream:
            typer.echo(delta.text, nl=False)
        typer.echo()
        if timings:
            typer.echo(timings_line(stream.result), err=True)  # standard output is the answer's


def parse_logit_bias(pairs: Sequence[str]) -> dict[int, float]:
    """Biases by token id, from texts like `42=-1.5`.

    Raises:
        BadParameter: a text of another form.
    """
    biases = {}
    for pair in pairs:
        token_id, _, bias = pair.partition("=")
        try:
            biases[int(token_id)] = float(bias)
        except ValueError:
            raise typer.BadParameter(f"--logit-bias: expected ID=BIAS, for instance 42=-1.5, got {pair!r}") from None
    return biases
