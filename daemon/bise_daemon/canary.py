"""The canary: one token through scheduler, graph, sampler and tokenizer, as any request's."""

from __future__ import annotations

import secrets

from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.dispatcher import Dispatcher
from bise_daemon.engine.events import Failed, Finished
from bise_daemon.engine.generation import Generation
from bise_daemon.engine.loop import clock_ms
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.models.model import Model
from bise_daemon.scheduler.request import Priority, Request

_TEXT = "Hello"
_TOKENS = 2


class CanaryError(RuntimeError):
    """The model does not answer; says why."""


async def sing(model: Model, dispatcher: Dispatcher) -> float:
    """Generates one token, behind everybody else's.

    Returns:
        How long that took, in milliseconds.

    Raises:
        CanaryError: no token came, or its logits were no numbers.
    """
    began_ms = clock_ms()
    # As few tokens as any cache and any chunk takes.
    prompt = (model.tokenizer.encode(_TEXT) * _TOKENS)[:_TOKENS]
    request = Request(
        secrets.token_hex(8), prompt, 1, priority=Priority.BACKGROUND, arrived_ms=began_ms, leaves_prefix=False
    )
    generation = Generation(
        Sampler(SamplingParams(), prompt), model.tokenizer.detokenizer(continues=True), StopMatcher(()), frozenset()
    )
    with dispatcher.submit(request, generation) as answer:
        while True:
            match (await answer.next_events())[-1]:
                case Finished():
                    return clock_ms() - began_ms
                case Failed(error=error):
                    raise CanaryError(f"expected a token of the model, got: {error}")
