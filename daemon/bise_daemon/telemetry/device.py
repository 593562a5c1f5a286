"""Metrics of the device and of the daemon as a whole: what the status and the sensors say, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from bise_daemon.errors import Reason
from bise_daemon.sensors.body import Body
from bise_daemon.telemetry.metric import Family, Instrument, Metric, Points
from bise_proto.v1 import device_pb2


@dataclass(frozen=True, slots=True)
class Vitals:
    """Everything that is read at one moment."""

    status: device_pb2.Status
    body: Body


Read = Callable[[Vitals], Points]

_STATES = ("LOADING", "SERVING", "DRAINING", "FAILED")
_LEVELS = ("NORMAL", "TIGHT", "CRITICAL")


def _field(name: str, scale: float = 1.0) -> Read:
    """A number of the status."""
    read = attrgetter(name)
    return lambda vitals: {(): read(vitals.status) * scale}


def _fields(**names: str) -> Read:
    """Numbers of the status by label."""
    return lambda vitals: {(label,): getattr(vitals.status, name) for label, name in names.items()}


def _labelled(values: Mapping[str, float]) -> Points:
    return {(label,): value for label, value in values.items()}


def _known(value: float | None) -> Points:
    return {} if value is None else {(): value}


def _one_of(names: tuple[str, ...], present: str) -> Points:
    """1 for what is, 0 for what is not."""
    return {(name.lower(),): float(name == present) for name in names}


def _info(vitals: Vitals) -> Points:
    status = vitals.status
    return {(status.daemon_version, status.model, status.model_version): 1.0}


def _errors(vitals: Vitals) -> Points:
    of = {"first_token": vitals.status.first_token_error, "total": vitals.status.total_error}
    return {
        (name, percentile): value
        for name, error in of.items()
        if error.samples
        for percentile, value in (("50", error.p50), ("90", error.p90))
    }


def _promises(vitals: Vitals) -> Points:
    promises = vitals.status.promises
    return {
        (name, outcome): count
        for name in promises
        for outcome, count in (("met", promises[name].met), ("missed", promises[name].missed))
    }


def _rows(instrument: Instrument, *rows: tuple[str, str, str, tuple[str, ...], Read]) -> dict[Metric, Read]:
    return {Metric(name, instrument, unit, text, labels): read for name, unit, text, labels, read in rows}


_ALWAYS = _rows(
    Instrument.GAUGE,
    ("bise.info", "", "1; its labels say what runs.", ("version", "model", "model_version"), _info),
    (
        "bise.state",
        "",
        "1 for the state the daemon is in: loading, serving, draining or failed.",
        ("state",),
        lambda vitals: _one_of(_STATES, device_pb2.Status.State.Name(vitals.status.state)),
    ),
    ("bise.uptime", "s", "Since the daemon began.", (), _field("uptime_s")),
    ("bise.memory.available", "By", "What the daemon could still take.", (), _field("memory_available_bytes")),
    ("bise.memory.resident", "By", "What the daemon holds, mapped files included.", (), _field("rss_bytes")),
    ("bise.memory.resident.peak", "By", "The most it ever held.", (), _field("peak_rss_bytes")),
    (
        "bise.temperature",
        "Cel",
        "By sensor.",
        ("sensor",),
        lambda vitals: _labelled(vitals.body.celsius),
    ),
    (
        "bise.cpu.speed",
        "1",
        "Clocks of all cores as a share of the fastest they can do.",
        (),
        lambda vitals: _known(vitals.body.clock.speed),
    ),
    (
        "bise.cpu.speed.limit",
        "1",
        "The fastest allowed now as a share of the same; the kernel lowers it to cool the device.",
        (),
        lambda vitals: _known(vitals.body.clock.limit),
    ),
) | _rows(
    Instrument.COUNTER,
    (
        "bise.cpu.throttled",
        "{event}",
        "How often hardware slowed cores down against heat, since boot.",
        (),
        lambda vitals: _known(vitals.body.clock.throttled),
    ),
    (
        "bise.energy",
        "J",
        "What processor packages took since the first reading; divided by tokens it is joules a token.",
        ("source",),
        lambda vitals: _labelled(vitals.body.joules),
    ),
)
_WITH_A_MODEL = _rows(
    Instrument.GAUGE,
    ("bise.load.duration", "s", "What loading the model took.", (), _field("load_ms", 1e-3)),
    ("bise.context.limit", "{token}", "Tokens one request may hold now.", (), _field("context_limit")),
    ("bise.slots", "{slot}", "Requests that can be served at once.", (), _field("slots")),
    ("bise.slots.used", "{slot}", "Requests that hold a slot.", (), _field("slots_used")),
    ("bise.queue", "{request}", "Requests that wait for a slot.", (), _field("queued")),
    ("bise.kv.reserved", "By", "Address space of the KV cache.", (), _field("kv_reserved_bytes")),
    ("bise.kv.budget", "By", "What all requests together may hold now.", (), _field("kv_budget_bytes")),
    ("bise.kv.used", "By", "What running requests hold.", (), _field("kv_used_bytes")),
    ("bise.kv.idle", "By", "What is kept for requests that begin alike.", (), _field("kv_idle_bytes")),
    (
        "bise.memory.level",
        "",
        "1 for the level memory is at: normal, tight or critical.",
        ("level",),
        lambda vitals: _one_of(_LEVELS, device_pb2.Status.MemoryLevel.Name(vitals.status.memory_level)),
    ),
    (
        "bise.memory.pressure",
        "1",
        "Share of the last 10 s in which some, or all, work waited for memory (PSI).",
        ("work",),
        _fields(some="memory_pressure_some", full="memory_pressure_full"),
    ),
    (
        "bise.prediction.error",
        "1",
        "How far predictions of latest requests were off, relative to what they took, by percentile.",
        ("of", "percentile"),
        _errors,
    ),
    (
        "bise.step.time",
        "1",
        "What latest steps took over what was expected, by percentile; 1 is as expected.",
        ("percentile",),
        lambda vitals: {("50",): vitals.status.step_time_ratio_p50, ("90",): vitals.status.step_time_ratio_p90},
    ),
    (
        "bise.step.running",
        "s",
        "How long the present step has been running; 0 while there is nothing to do.",
        (),
        _field("step_running_ms", 1e-3),
    ),
) | _rows(
    Instrument.COUNTER,
    (
        "bise.requests",
        "{request}",
        "Requests that got in, by what became of them: finished, cancelled or failed.",
        ("outcome",),
        _fields(finished="requests_finished", cancelled="requests_cancelled", failed="requests_failed"),
    ),
    (
        "bise.requests.expired",
        "{request}",
        "Of the finished, those cut by their deadline.",
        (),
        _field("requests_expired"),
    ),
    ("bise.preemptions", "{request}", "How often background work was interrupted.", (), _field("requests_preempted")),
    (
        "bise.refusals",
        "{request}",
        "Requests refused at admission, by reason.",
        ("reason",),
        # Those that never came as well: a rate begins at a zero that was seen.
        lambda vitals: _labelled({each.value: vitals.status.refusals.get(each.value, 0) for each in Reason}),
    ),
    (
        "bise.budgets",
        "{request}",
        "Requests with a stated budget, by priority class and whether it was met or missed.",
        ("priority", "outcome"),
        _promises,
    ),
    ("bise.steps", "{step}", "Runs of the model's graph.", (), _field("steps")),
    (
        "bise.tokens",
        "{token}",
        "Tokens of prompts that were computed, of prompts that were not computed again, and of answers.",
        ("kind",),
        _fields(prompt="prompt_tokens", cached="cached_tokens", completion="completion_tokens"),
    ),
    (
        "bise.drafts",
        "{token}",
        "Tokens guessed ahead, and those of them that the model confirmed.",
        ("kind",),
        _fields(guessed="draft_tokens", confirmed="accepted_draft_tokens"),
    ),
)
DEVICE_METRICS = (*_ALWAYS, *_WITH_A_MODEL)


def families(vitals: Vitals) -> Iterator[Family]:
    """What vitals come to. Before a model is loaded there is nothing to say of it."""
    known = _ALWAYS | _WITH_A_MODEL if vitals.status.model else _ALWAYS
    for metric, read in known.items():
        yield Family(metric, read(vitals))
