"""Metrics of single answers: OpenTelemetry's semantic conventions for generative AI, observed as each answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from bise_daemon.engine.loop import clock_ms
from bise_daemon.errors import RequestError
from bise_daemon.serving import Stage
from bise_daemon.telemetry.metric import Distribution, Family, Instrument, Metric
from bise_proto.v1 import inference_pb2

Responses = AsyncGenerator[inference_pb2.GenerateResponse, None]

PROVIDER = "bise"
LEFT, BROKEN = "CANCELLED", "_OTHER"
"""Error types beside the reasons of refusals: the caller went away; nobody knows."""

_WHOSE = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")

# Names, units, attributes and bounds are of open-telemetry/semantic-conventions-genai, status Development, whose
# bounds for a token begin at 10 ms: small models are all within the first.
FIRST_TOKEN = Metric(
    "gen_ai.server.time_to_first_token",
    Instrument.HISTOGRAM,
    "s",
    "From arrival to the first token, of answers that were given.",
    _WHOSE,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN = Metric(
    "gen_ai.server.time_per_output_token",
    Instrument.HISTOGRAM,
    "s",
    "Per token after the first, of answers that were given.",
    _WHOSE,
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
DURATION = Metric(
    "gen_ai.server.request.duration",
    Instrument.HISTOGRAM,
    "s",
    "From arrival to the end; error.type is empty, a refusal's reason, or CANCELLED where the caller left.",
    (*_WHOSE, "error.type"),
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TOKENS = Metric(
    "gen_ai.client.token.usage",
    Instrument.HISTOGRAM,
    "{token}",
    "Tokens of answers that were given: gen_ai.token.type is input or output.",
    (*_WHOSE, "gen_ai.token.type"),
    tuple(4.0**power for power in range(14)),
)
ANSWER_METRICS = (FIRST_TOKEN, PER_TOKEN, DURATION, TOKENS)


class Answers:
    """Watches answers go by. Belongs to the event loop.

    Args:
        stage: says which model answers.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._distributions: dict[Metric, dict[tuple[str, ...], Distribution]] = {
            metric: {} for metric in ANSWER_METRICS
        }

    async def watched(self, operation: str, responses: Responses) -> Responses:
        """The same responses; what they came to is observed when they end.

        Args:
            operation: one of the conventions' well-known values of `gen_ai.operation.name`.

        Raises:
            RequestError: what the responses raise.
        """
        arrived_ms = clock_ms()
        error = BROKEN
        try:
            async with aclosing(responses):
                async for response in responses:
                    if response.HasField("done"):
                        self._given(operation, response.done)
                        error = ""
                    yield response
        except RequestError as refusal:
            error = refusal.reason.value
            raise
        except (GeneratorExit, asyncio.CancelledError):
            error = error and LEFT
            raise
        finally:
            self._observe(DURATION, operation, (clock_ms() - arrived_ms) / 1e3, error)

    @property
    def model(self) -> str:
        """Who answers now; nobody while the model is loading."""
        serving = self._stage.current
        return "" if serving is None else serving.model.bundle.name

    def families(self) -> Iterator[Family]:
        """What was observed so far."""
        for metric, distributions in self._distributions.items():
            yield Family(metric, dict(distributions))

    def _given(self, operation: str, done: inference_pb2.Done) -> None:
        usage, timings = done.usage, done.timings
        self._observe(TOKENS, operation, usage.prompt_tokens, "input")
        self._observe(TOKENS, operation, usage.completion_tokens, "output")
        if usage.completion_tokens:
            self._observe(FIRST_TOKEN, operation, timings.first_token_ms / 1e3)
        if (more_tokens := usage.completion_tokens - 1) > 0:
            decoding_s = (timings.total_ms - timings.first_token_ms) / 1e3
            self._observe(PER_TOKEN, operation, decoding_s / more_tokens)

    def _observe(self, metric: Metric, operation: str, value: float, *labels: str) -> None:
        key = (operation, PROVIDER, self.model, *labels)
        distributions = self._distributions[metric]
        if key not in distributions:
            distributions[key] = Distribution(metric.bounds)
        distributions[key].observe(value)
