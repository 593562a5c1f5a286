"""What the status and the sensors come to."""

from __future__ import annotations

import pytest

from bise_daemon.errors import Reason
from bise_daemon.sensors.body import Body
from bise_daemon.sensors.clock import Clock
from bise_daemon.telemetry.device import DEVICE_METRICS, Vitals, families
from bise_daemon.telemetry.metric import Points
from bise_proto.v1 import device_pb2

NOTHING = Body({}, Clock(None, None, None), {})
STATUS = device_pb2.Status(
    state=device_pb2.Status.SERVING,
    model="tiny",
    memory_level=device_pb2.Status.TIGHT,
    memory_pressure_some=0.25,
    load_ms=1500,
    first_token_error=device_pb2.PredictionError(p50=0.1, p90=0.3, samples=4),
    refusals={"BUDGET": 3},
    promises={"critical": device_pb2.Promises(met=4, missed=1)},
    draft_tokens=6,
)


def points(status: device_pb2.Status, body: Body = NOTHING) -> dict[str, Points]:
    return {family.metric.name: family.points for family in families(Vitals(status, body))}


def test_a_whole_status_is_told() -> None:
    told = points(STATUS)
    assert told.keys() == {metric.name for metric in DEVICE_METRICS}
    assert told["bise.load.duration"] == {(): 1.5}
    assert told["bise.memory.level"] == {("normal",): 0, ("tight",): 1, ("critical",): 0}
    assert told["bise.memory.pressure"] == {("some",): 0.25, ("full",): 0}
    assert told["bise.prediction.error"] == {("first_token", "50"): 0.1, ("first_token", "90"): 0.3}
    assert told["bise.budgets"] == {("critical", "met"): 4, ("critical", "missed"): 1}
    assert told["bise.drafts"] == {("guessed",): 6, ("confirmed",): 0}


def test_a_refusal_that_never_came_is_a_zero() -> None:
    refusals = points(STATUS)["bise.refusals"]
    assert refusals == {(reason.value,): 3.0 if reason is Reason.BUDGET else 0.0 for reason in Reason}


def test_while_loading_nothing_is_said_of_a_model() -> None:
    told = points(device_pb2.Status(state=device_pb2.Status.LOADING))
    assert told["bise.state"]["loading",] == 1
    assert not told.keys() & {"bise.slots", "bise.context.limit", "bise.requests", "bise.memory.level"}


@pytest.mark.parametrize("state", [name for name in device_pb2.Status.State.keys() if name != "STATE_UNSPECIFIED"])  # noqa: SIM118
def test_every_state_is_one_of_those_told(state: str) -> None:
    told = points(device_pb2.Status(state=device_pb2.Status.State.Value(state)))["bise.state"]
    assert [label for label, value in told.items() if value] == [(state.lower(),)]


def test_sensors_are_told_as_far_as_they_speak() -> None:
    told = points(STATUS, Body({"soc": 61.5}, Clock(0.5, None, 3), {"package-0": 2.0}))
    assert told["bise.temperature"] == {("soc",): 61.5}
    assert (told["bise.cpu.speed"], told["bise.cpu.speed.limit"]) == ({(): 0.5}, {})
    assert (told["bise.cpu.throttled"], told["bise.energy"]) == ({(): 3}, {("package-0",): 2.0})


def test_names_are_given_once() -> None:
    names = [metric.name for metric in DEVICE_METRICS]
    assert len(set(names)) == len(names)
    assert all(metric.help.endswith(".") for metric in DEVICE_METRICS)
